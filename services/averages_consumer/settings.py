"""The averages consumer's options."""

from __future__ import annotations

from dataclasses import dataclass

from hourglass.settings import ServiceSettings, option


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragesConsumerSettings(ServiceSettings):
    """What an averages consumer process is told."""

    warehouse_url: str = option(
        "sqlite:///hourglass.db",
        "The warehouse, an SQLAlchemy URL: sqlite:///FILE, or "
        "postgresql://user:password@host/database (which takes psycopg[binary]).",
        secret=True,
    )
    warehouse_url_file: str | None = option(
        None, "File with the warehouse's URL, first line; it wins over the URL."
    )
    claim_idle_ms: int = option(
        30_000,
        "How long an entry stays with a consumer that does not acknowledge it before another "
        "one takes it over.",
        unit="ms",
        minimum=1,
    )
    revisions: bool = option(
        False,
        "Let late readings raise their hour's revision in the warehouse. What is published "
        "stays as it was.",
    )
    web: bool = option(True, "Serve the web page and its API.")
    web_port: int = option(
        8081, "Port of the web page, at --http-host; 0 takes a free one.", minimum=0, maximum=65535
    )
    period_s: float = option(
        1.0,
        "Time between two readings of a device, which tells how complete an hour is; 0 where "
        "devices have none in common.",
        unit="s",
        minimum=0,
    )
