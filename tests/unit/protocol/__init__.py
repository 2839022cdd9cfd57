"""Unit tests of `tefmanager.protocol`."""
