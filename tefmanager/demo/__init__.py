"""The demo: a small grid on a sandbox, to be watched in the terminal. ``script/demo`` runs it.

It is a client like any other: it speaks to the manager over RabbitMQ, reads resources from Etcd and
events from the log. ``worker`` is written to be read by people who write a worker.
"""
