"""Unit tests of `tefmanager.service`."""
