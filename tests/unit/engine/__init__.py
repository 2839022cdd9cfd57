"""Unit tests of `tefmanager.engine`."""
