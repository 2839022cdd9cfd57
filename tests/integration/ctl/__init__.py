"""Tests of `tefmanager.ctl` with real services."""
