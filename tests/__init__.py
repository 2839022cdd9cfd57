"""Tests of tef-manager."""
