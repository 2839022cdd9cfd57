"""Unit tests of `tefmanager.amqp`."""
