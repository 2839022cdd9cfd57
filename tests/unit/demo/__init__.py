"""Unit tests of `tefmanager.demo`."""
