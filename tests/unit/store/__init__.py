"""Unit tests of `tefmanager.store`."""
