"""Unit tests of `tefmanager.logfile`."""
