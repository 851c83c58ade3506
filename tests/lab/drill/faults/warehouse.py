"""A warehouse that is down, slow, full, or hangs up."""

from __future__ import annotations

import sqlite3
import time

from tests.lab.drill.fault import Fault
from tests.lab.drill.report import Happened
from tests.lab.drill.stage import Setting, Stage

WHILE_S = 4.0
SQLITE = Setting(database="sqlite")


def down(stage: Stage) -> Happened:
    if stage.postgres:
        stage.postgres.stop()
        stage.hold(WHILE_S)
        stage.postgres.start()
        return Happened(text=f"PostgreSQL was down for {WHILE_S:.0f} s")
    return locked(stage)


def locked(stage: Stage) -> Happened:
    file = stage.warehouse_url.removeprefix("sqlite:///")
    with sqlite3.connect(file, timeout=30, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        stage.hold(WHILE_S)
        other.execute("COMMIT")
    other.close()
    return Happened(text=f"another program held the SQLite file locked for {WHILE_S:.0f} s")


def cut(stage: Stage) -> Happened:
    """In the middle of whatever it does, transactions included."""
    if not stage.postgres:
        return locked(stage)
    times = 0
    for _ in stage.holding(WHILE_S):
        stage.postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'hourglass-averages-consumer'"
        )
        times += 1
        time.sleep(0.02)
    return Happened(text=f"every connection to PostgreSQL was cut {times} times")


def full(stage: Stage) -> Happened:
    if not stage.postgres:
        return locked(stage)
    refuse = "ALTER SYSTEM SET default_transaction_read_only = {}"
    for setting, seconds in (("on", WHILE_S), ("off", 0.0)):
        stage.postgres.execute(
            "SET default_transaction_read_only = off", refuse.format(setting),
            "SELECT pg_reload_conf()",
        )  # fmt: skip
        stage.hold(seconds)
    return Happened(text=f"PostgreSQL refused every write for {WHILE_S:.0f} s")


def slow(stage: Stage) -> Happened:
    """Each transaction waits for a lock that another client holds most of the time."""
    if not stage.postgres:
        return locked(stage)
    for _ in stage.holding(WHILE_S):
        stage.postgres.execute(
            "DO $$ BEGIN LOCK TABLE hourly_averages; PERFORM pg_sleep(0.5); END $$",
            url=stage.warehouse_url,
        )
    return Happened(text=f"every transaction waited half a second, for {WHILE_S:.0f} s")


RESTS = "an entry is acknowledged after the warehouse has its row: `averages_consumer/consumer.py`"

FAULTS = (
    Fault(
        name="warehouse-down",
        what="the warehouse is down",
        act=down,
        rests_on=RESTS,
        proof="tests/integration/test_averages_consumer.py::"
        "test_while_the_warehouse_is_away_the_averages_wait_in_the_stream",
    ),
    Fault(
        name="warehouse-locked",
        what="the SQLite warehouse is locked by another program",
        act=locked,
        setting=SQLITE,
        rests_on=RESTS,
        proof="tests/integration/test_averages_consumer.py::"
        "test_a_locked_file_delays_the_averages_and_loses_none",
    ),
    Fault(
        name="warehouse-slow",
        what="the warehouse is slow",
        act=slow,
        rests_on=RESTS,
        proof="tests/integration/test_warehouse.py::"
        "test_a_locked_table_is_unreachable_before_the_worker_counts_as_stuck",
    ),
    Fault(
        name="warehouse-full",
        what="the warehouse refuses writes",
        act=full,
        rests_on=RESTS,
        proof="tests/integration/test_warehouse.py::"
        "test_a_full_disk_is_unreachable_until_there_is_room_again",
    ),
    Fault(
        name="warehouse-cut",
        what="connections to the warehouse are cut, in transactions too",
        act=cut,
        rests_on="one row for an hour, upserted: `averages_consumer/warehouse/warehouse.py`",
        proof="tests/integration/test_warehouse.py::"
        "test_a_connection_that_is_cut_in_a_transaction_leaves_all_of_it_or_nothing",
    ),
)
