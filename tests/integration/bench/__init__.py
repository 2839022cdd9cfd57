"""Tests of the benchmarks with real services."""
