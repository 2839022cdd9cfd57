"""Unit tests of `tefmanager.config`."""
