"""Tests of `tefmanager.service` with real services."""
