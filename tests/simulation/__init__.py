"""The core under millions of random events."""
