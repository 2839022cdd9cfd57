"""A grid of real programs in which everything is broken on purpose, and a verdict on its tasks.

``script/chaos`` runs it. The managers, the workers, a sender and the three servers are separate processes;
they are killed, frozen and cut off from each other while thousands of tasks are processed.
"""
