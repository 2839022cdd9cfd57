"""What adapters and the engine share: pauses, clocks, task groups, TLS, the lease, the list of outages."""
