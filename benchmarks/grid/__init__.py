"""Our side of the benchmark: the daemon as it is in production, and a simulated grid."""
