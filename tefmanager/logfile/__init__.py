"""The log that other programs watch: one line per event, in a file or on standard output."""
