"""Unit tests of `tefmanager.support`."""
