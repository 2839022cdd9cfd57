"""Tests of `tefmanager.store` with real services."""
