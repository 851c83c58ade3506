"""A warehouse without rows that it had, as after a failover that lost its last commits."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from averages_consumer.warehouse.table import hourly_averages, moment


def lose_rows(url: str, hours_ms: Iterable[int]) -> None:
    """Delete the rows of these hours, which are there."""
    hours = [moment(hour) for hour in hours_ms]
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        gone = connection.execute(
            sa.delete(hourly_averages).where(hourly_averages.c.hour.in_(hours))
        )
        assert gone.rowcount == len(hours)
    engine.dispose()
