"""Simulates a whole grid in one process, on a clock that runs as fast as it can, with random faults."""
