"""Incoming messages, and the catalogue of logged events. Pure."""
