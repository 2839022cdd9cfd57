"""Unit tests of `tefmanager.ctl`."""
