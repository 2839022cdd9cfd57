"""PostgreSQL: the only durable state. One leadership at a time, one transaction per turn."""

from tefmanager.store.names import lock_name_for, table_prefix_for
from tefmanager.store.store import Store

__all__ = ["Store", "lock_name_for", "table_prefix_for"]
