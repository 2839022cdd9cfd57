"""``tefctl``, for people and scripts: queries and controls a manager, and changes resources."""
