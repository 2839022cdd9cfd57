"""The demo: a small grid on a sandbox that people can watch in the terminal. ``script/demo`` runs it.

It is a client like any other: it talks to the manager over RabbitMQ, and reads resources from Etcd and
events from the log. ``worker`` is meant to be read by people who write a worker.
"""
