"""Turns, and everything that comes in or goes out around one. Knows contracts and no adapter."""
