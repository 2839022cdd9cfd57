"""Tests of `tefmanager.demo` with real services."""
