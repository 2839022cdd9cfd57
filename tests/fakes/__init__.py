"""Fakes of the adapters; each passes the same contract suite as the real one."""
