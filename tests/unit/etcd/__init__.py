"""Unit tests of `tefmanager.etcd`."""
