"""Tests of `tefmanager.logfile` with real services."""
