"""Connects to the warehouse's database: its URL, the driver's options and the driver's errors.

    HourglassError
    ├── ConfigurationError             invalid URL, driver not installed, or unusable at start-up
    └── WarehouseUnreachable           the warehouse does not answer: try again
        └── WarehouseUnusable          it answers, but rejects requests until a person acts
            └── LoginRefused           it rejects user or password: exit, a restart reads new ones

No message contains a password.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, ProgrammingError, SQLAlchemyError

from hourglass.errors import ConfigurationError, HourglassError

SQLITE, POSTGRESQL = "sqlite+pysqlite", "postgresql+psycopg"
#: The schemes a URL may have.
_DRIVERS = {
    "sqlite": SQLITE,
    SQLITE: SQLITE,
    "postgresql": POSTGRESQL,
    "postgres": POSTGRESQL,
    POSTGRESQL: POSTGRESQL,
}
URL_REMEDY = (
    "set HOURGLASS_WAREHOUSE_URL to sqlite:///FILE or postgresql://user:password@host/database"
)
_FILE_REMEDY = (
    "its folder must exist and be writable, and the file must be an SQLite database: "
    "check HOURGLASS_WAREHOUSE_URL"
)
#: Shorter than the time a service has to finish its batch after SIGTERM.
_BUSY_TIMEOUT_MS = 1000
#: Detects a server that disappeared without closing the connection within about ten seconds.
_POSTGRESQL_OPTIONS = {
    "connect_timeout": 2,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "hourglass-averages-consumer",
}
#: The options of libpq in a URL that are secret.
_SECRET_OPTIONS = ("password", "sslpassword", "oauth_client_secret")
#: The options that an SQLite URL may have; with `uri` SQLite itself parses them.
_SQLITE_OPTIONS = {
    "timeout", "detect_types", "isolation_level", "check_same_thread", "cached_statements",
}  # fmt: skip
#: SQLite errors that persist until a person fixes the cause.
_UNUSABLE_FILE = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_NOTADB", "SQLITE_PERM")
_WHERE = "HOURGLASS_WAREHOUSE_URL or its file"
#: PostgreSQL errors that persist until a person fixes the cause: SQLSTATE and remedy.
_UNUSABLE_ROLE = {
    "42501": "GRANT CREATE ON SCHEMA public to the role, or let its owner run an averages consumer "
    "first and GRANT SELECT, INSERT, UPDATE ON hourly_averages, SELECT ON hourglass_schema_version",
    "3F000": "give the role a schema in its search_path, and GRANT CREATE on it",
    "25006": f"give the primary server in {_WHERE}, and a role that may write "
    "(default_transaction_read_only off)",
}


class WarehouseUnreachable(HourglassError):
    """The warehouse does not answer; nothing was changed, try again."""


class WarehouseUnusable(WarehouseUnreachable):
    """The warehouse answers, but rejects requests for a reason that a retry does not fix; the
    message has the remedy."""

    exit_code = 2


class LoginRefused(WarehouseUnusable):
    """The warehouse rejects this process's user or password, which it reads only at start-up."""


#: Log-in errors, for which the driver passes on no SQLSTATE: pattern, error and remedy.
_UNUSABLE_LOGIN: Sequence[tuple[str, type[WarehouseUnreachable], str]] = (
    (
        (
            r"password authentication failed|no password supplied|no pg_hba\.conf entry"
            r"|is not permitted to log in|role \".*\" does not exist|permission denied for database"
        ),
        LoginRefused,
        f"check user and password in {_WHERE}, and that this user may log in",
    ),
    (
        r"database \".*\" does not exist",
        WarehouseUnusable,
        f"create the database, or set another one in {_WHERE}",
    ),
    (r"connection is bad: invalid ", WarehouseUnusable, URL_REMEDY),
)


def parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(f"the warehouse's URL is not valid: {URL_REMEDY}") from None
    if "@" in url and parsed.get_backend_name() != "sqlite" and not _is_escaped(url, parsed):
        raise ConfigurationError(
            "the warehouse's URL has more than one @: escape the password (%40 is @, %2F is /, "
            f"%23 is #, %3F is ?) in {_WHERE}"
        )
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise ConfigurationError(f"{parsed.drivername} is not a supported warehouse: {URL_REMEDY}")
    if driver == SQLITE and parsed.database in (None, "", ":memory:"):
        raise ConfigurationError(f"a warehouse in memory would be lost at exit: {URL_REMEDY}")
    return parsed.set(drivername=driver)


def _is_escaped(url: str, parsed: sa.URL) -> bool:
    """Whether the only @ ends the credentials. Otherwise a part of the password would be parsed as
    the host or the database, and be shown in messages."""
    return url.count("@") == 1 and parsed.username is not None


def shown(url: sa.URL) -> str:
    """The URL with all its secrets hidden."""
    hidden = {name: "hidden" for name in _SECRET_OPTIONS if name in url.query}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def _secrets(url: sa.URL) -> Iterator[str]:
    if url.password:
        yield str(url.password)
    for name in _SECRET_OPTIONS:
        yield from url.normalized_query.get(name, ())


def engine(url: sa.URL) -> sa.Engine:
    """Raises ConfigurationError."""
    try:
        if url.drivername == POSTGRESQL:
            options = _postgresql_options(url)
            url = url.difference_update_query(["prepare_threshold"])
        else:
            options = _sqlite_options(url)
        # Batches may be an hour apart, so each connection is tested before use (pool_pre_ping).
        return sa.create_engine(url, connect_args=options, pool_pre_ping=True, hide_parameters=True)
    except ImportError as error:
        raise ConfigurationError(
            f"the driver for PostgreSQL is not installed ({error}): pip install 'psycopg[binary]'"
        ) from None
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            f"an option in the warehouse's URL has an invalid value: {URL_REMEDY}"
        ) from None


def _postgresql_options(url: sa.URL) -> Mapping[str, Any]:
    """Arguments for the driver, in addition to the libpq options in the URL.

    Raises ImportError, ValueError, ConfigurationError.
    """
    from psycopg.pq import Conninfo

    known = {each.keyword.decode() for each in Conninfo.get_defaults()}
    _refuse_unknown(url, known | {"prepare_threshold"})
    options = {name: value for name, value in _POSTGRESQL_OPTIONS.items() if name not in url.query}
    # No prepared statements by default: behind a pooler in transaction mode the next transaction
    # may run on another server connection, which does not have them.
    threshold = url.query.get("prepare_threshold")
    return {**options, "prepare_threshold": None if threshold is None else int(str(threshold))}


def _sqlite_options(url: sa.URL) -> Mapping[str, Any]:
    """Raises ConfigurationError."""
    if "uri" not in url.query:
        _refuse_unknown(url, _SQLITE_OPTIONS)
    return {} if "timeout" in url.query else {"timeout": _BUSY_TIMEOUT_MS / 1000}


def _refuse_unknown(url: sa.URL, known: Collection[str]) -> None:
    if unknown := sorted(set(url.query) - set(known)):
        raise ConfigurationError(
            f"the warehouse's URL has an unknown option ({', '.join(unknown)}): {URL_REMEDY}"
        )


def explained(error: SQLAlchemyError, url: sa.URL) -> WarehouseUnreachable:
    """The error to raise: with a remedy, unless a retry may help."""
    reason = _reason(error, url)
    kind, remedy = _remedy(error)
    if kind is WarehouseUnreachable:
        return WarehouseUnreachable(f"the warehouse {shown(url)} does not answer: {reason}")
    return kind(f"the warehouse {shown(url)} cannot be used: {reason}: {remedy}")


def _remedy(error: SQLAlchemyError) -> tuple[type[WarehouseUnreachable], str]:
    """The error to raise, and its remedy; empty for WarehouseUnreachable: a retry may help."""
    if not isinstance(error, DBAPIError):
        return WarehouseUnreachable, ""
    # sqlite3 names each error; psycopg has an SQLSTATE for errors that the server sent.
    if getattr(error.orig, "sqlite_errorname", "").startswith(_UNUSABLE_FILE):
        return WarehouseUnusable, _FILE_REMEDY
    code = getattr(error.orig, "sqlstate", "unknown")
    if isinstance(error, ProgrammingError) and not code:
        return WarehouseUnusable, URL_REMEDY
    if code in _UNUSABLE_ROLE:
        return WarehouseUnusable, _UNUSABLE_ROLE[code]
    message = str(error.orig)
    found = [(kind, remedy) for sign, kind, remedy in _UNUSABLE_LOGIN if re.search(sign, message)]
    return found[0] if found else (WarehouseUnreachable, "")


def _reason(error: SQLAlchemyError, url: sa.URL) -> str:
    """The first line of the driver's message, with secrets replaced by ***."""
    message = str(error.orig if isinstance(error, DBAPIError) else error)
    first = message.strip().partition("\n")[0]
    for secret in filter(None, _secrets(url)):
        first = first.replace(secret, "***")
    return first
