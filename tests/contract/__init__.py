"""Suites that a fake and its real twin both have to pass."""
