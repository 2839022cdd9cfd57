"""Etcd: reserves shared resources, all or none, through the v2 keys API or the v3 gateway."""
