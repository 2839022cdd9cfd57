"""Tests of `tefmanager.amqp` with real services."""
