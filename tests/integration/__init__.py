"""Tests that run against real services, mostly driven by clients that are not ours."""
