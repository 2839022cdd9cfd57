"""What leaves the manager after a turn, where that takes more than one step."""
