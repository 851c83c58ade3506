"""The averages consumer's options."""

from __future__ import annotations

from dataclasses import dataclass

from hourglass.service.config import ServiceSettings, claim_idle_option, option


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragesConsumerSettings(ServiceSettings):
    """The options of an averages consumer process."""

    warehouse_url: str = option(
        "sqlite:///hourglass.db",
        "The warehouse, an SQLAlchemy URL: sqlite:///FILE, or "
        "postgresql://user:password@host/database (requires psycopg[binary]).",
        secret=True,
    )
    warehouse_url_file: str | None = option(
        None, "File with the warehouse's URL in its first line; overrides the URL."
    )
    claim_idle_ms: int = claim_idle_option()
    revisions: bool = option(
        False,
        "Add late readings to the warehouse as a new revision of their hour. Published averages "
        "do not change.",
    )
    web: bool = option(True, "Serve the web page and its API.")
    web_port: int = option(
        8081, "Port of the web page on --http-host; 0 takes a free one.", minimum=0, maximum=65535
    )
    period_s: float = option(
        1.0,
        "Time between two readings of a device, used to compute the completeness of an hour; 0 if "
        "the devices have no common period.",
        unit="s",
        minimum=0,
    )
