"""PostgreSQL: the truth. One reign, one transaction a turn, numbered upgrades."""
