"""Tests of `tefmanager.protocol` with real services."""
