"""Shared resources: what is free, who claims it, and what is wrong with it."""
