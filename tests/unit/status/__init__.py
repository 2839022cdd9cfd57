"""Unit tests of `tefmanager.status`."""
