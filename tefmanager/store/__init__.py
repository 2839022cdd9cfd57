"""PostgreSQL: the truth. One leadership, one transaction a turn, numbered upgrades."""

from tefmanager.store.names import lock_name_for, table_prefix_for
from tefmanager.store.store import Store

__all__ = ["Store", "lock_name_for", "table_prefix_for"]
