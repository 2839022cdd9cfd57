"""The log that others watch: one event, one line, in a file or on standard output."""
