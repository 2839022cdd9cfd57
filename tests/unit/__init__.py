"""Tests of pure modules: values in, values out."""
