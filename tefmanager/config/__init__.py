"""The configuration: every setting, where it is found, and what is wrong with it. Pure."""
