"""``tefctl``, for people and scripts: asks a manager and tells it what to do; changes resources."""
