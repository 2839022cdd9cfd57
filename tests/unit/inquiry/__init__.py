"""Unit tests of `tefmanager.inquiry`."""
