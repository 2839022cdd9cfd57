"""The turns, and all that happens around one. The engine knows the contracts and no adapter."""
