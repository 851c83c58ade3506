"""The warehouses."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from hourglassctl.local.processes import ProcessGroup
from tests.support.postgres import NoPostgres, Postgres, find_binaries


@pytest.fixture(scope="session")
def postgres() -> Generator[Postgres]:
    """A PostgreSQL server that the whole session shares."""
    try:
        find_binaries()
    except NoPostgres as reason:
        pytest.skip(str(reason))
    with ProcessGroup("hourglass-postgres-") as guard:
        server = Postgres(guard)
        yield server
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def warehouse_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty warehouse of the test's own, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/warehouse.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.emptied_database()
