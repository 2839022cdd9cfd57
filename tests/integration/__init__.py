"""Tests with real services, mostly driven by other clients than ours."""
