"""The benchmark: measures this manager and other task queues in turn, on the same servers.

`services` contains the servers and programs, `grid` our side (the daemon, and simulated workers), `peers`
the other task queues. `scenarios` says what is measured; `report` makes tables and plots of the results.
"""
