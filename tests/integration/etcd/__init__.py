"""Tests of `tefmanager.etcd` with real services."""
