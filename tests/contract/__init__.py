"""Suites that both a fake and its real twin must pass."""
