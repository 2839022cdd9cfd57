"""Our side of the benchmark: the daemon as in production, and a simulated grid."""
