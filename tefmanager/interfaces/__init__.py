"""The contracts between the engine and the outside: who retries, what may be repeated, what failure means.

Each interface has a real implementation in an adapter package and a fake in ``tests/fakes``; both pass the
same contract suite. The engine may call the coroutine functions in any turn. An implementation calls the
engine only through the callables that it was given.
"""
