"""The life of the daemon: start, wait for missing services, lead, reload, stop."""
