"""The warehouse: table `hourly_averages`, one row per hour, in SQLite or PostgreSQL.

- warehouse: reads and writes rows
- table: the table, its rows, the upsert
- schema: creates and migrates the tables, with the versions in `migrations`
- connect: URL, driver and errors
"""

from averages_consumer.warehouse.connect import (
    LoginRefused,
    WarehouseUnreachable,
    WarehouseUnusable,
)
from averages_consumer.warehouse.table import HourRow
from averages_consumer.warehouse.warehouse import Warehouse

__all__ = ["HourRow", "LoginRefused", "Warehouse", "WarehouseUnreachable", "WarehouseUnusable"]
