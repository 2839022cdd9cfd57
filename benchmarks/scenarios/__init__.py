"""What is measured, with a module for each group of cases."""
