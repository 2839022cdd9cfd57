"""The life of the daemon: start, wait for what is away, lead, reload, end."""
