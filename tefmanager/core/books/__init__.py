"""Bookkeeping: a turn's changes, the counters, the calendar, and the counts of suites."""
