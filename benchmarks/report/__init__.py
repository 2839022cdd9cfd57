"""Tables and plots of the results. Uses only the standard library and matplotlib."""
