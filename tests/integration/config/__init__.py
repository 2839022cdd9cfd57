"""Tests of `tefmanager.config` with real services."""
