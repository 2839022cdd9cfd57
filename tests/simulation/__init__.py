"""A whole grid in one process, on a clock that runs as fast as it can, broken in every way at random."""
