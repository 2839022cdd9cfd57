"""Tests of `tefmanager.sandbox` with real services."""
