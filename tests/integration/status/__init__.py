"""Tests of `tefmanager.status` with real services."""
