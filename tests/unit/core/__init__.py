"""Unit tests of `tefmanager.core`."""
