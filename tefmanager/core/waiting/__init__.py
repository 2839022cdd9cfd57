"""The tasks that wait, and which of them is next."""
