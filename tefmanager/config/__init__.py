"""The configuration: all settings, where they come from, and what is wrong with them. Pure."""
