"""Every fault there is, in the order of the table."""

from __future__ import annotations

from collections.abc import Sequence

from hourglass.errors import ConfigurationError
from tests.lab.drill.fault import Fault
from tests.lab.drill.faults import data, processes, redis, warehouse

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (*processes.FAULTS, *redis.FAULTS, *data.FAULTS, *warehouse.FAULTS)
}


def chosen(names: Sequence[str]) -> list[Fault]:
    """The named ones, in their order; all if none is named. Raises ConfigurationError."""
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        raise ConfigurationError(
            f"there is no fault {', '.join(unknown)}; there are {', '.join(FAULTS)}"
        )
    return [FAULTS[name] for name in names] or list(FAULTS.values())
