"""The other task queues: for each, a program that defines a task and submits it.

They run in a virtual environment of their own, and import nothing of the manager. `record` counts completed
tasks; `kinds` says how each task queue is started, and `runner` starts it.
"""
