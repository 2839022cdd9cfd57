"""Tools that adapters and engine share: pauses, clocks, task groups, TLS, the lease, the outages."""
