"""Tables and plots of what was measured. Standard library and matplotlib only."""
