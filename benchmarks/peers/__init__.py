"""The others: for each, a program that defines a task and submits it.

They run in a virtual environment of their own, and import nothing of the manager. `record` counts what
was done; `kinds` says how each is started, and `runner` does it.
"""
