"""Bookkeeping: what a turn changes, what is counted, and which suites are over."""
