"""Tests of `tefmanager.engine` with real services."""
