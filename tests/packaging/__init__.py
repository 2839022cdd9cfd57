"""Tests of what is installed: the wheel, the plugin, the package."""
