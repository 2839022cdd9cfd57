"""The contracts between the engine and the outside: who retries, what may be repeated, what failure means.

Each has a real implementation in an adapter package and a fake in ``tests/fakes`` that passes the same
contract suite. Methods that are coroutine functions may be called from any turn; no implementation
calls back into the engine but through the callables it was given.
"""
