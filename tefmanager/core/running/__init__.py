"""Workers and attempts: dispatched, working, overdue, gone."""
