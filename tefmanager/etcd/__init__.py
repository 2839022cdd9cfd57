"""Etcd: shared resources, reserved all or none, over the v2 keys or the v3 gateway."""
