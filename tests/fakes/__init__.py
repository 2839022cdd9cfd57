"""Stand-ins for the adapters; each passes the same contract suite as its real twin."""
