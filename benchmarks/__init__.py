"""The benchmark: this manager, and task queues of others beside it, measured on the same servers in turn.

`services` has the servers and programs that are measured on, `grid` is our side (the daemon, and
simulated workers), `peers` the others'. `scenarios` says what is measured, `report` draws tables and
plots of it.
"""
