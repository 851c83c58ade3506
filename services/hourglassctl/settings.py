"""The options of each subcommand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from hourglass.keys import MOST_LANES
from hourglass.settings import RedisSettings, option
from hourglassctl.export import Format
from producer.layout import PACKED_FROM, Packing

#: What is asked for once is said on the command line, never left behind in an environment.
flag = partial(option, env=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusSettings(RedisSettings):
    warehouse_url: str = option(
        "",
        "The warehouse, as an SQLAlchemy URL: an hour too late to be published that it has is no "
        "problem any more; empty leaves it out.",
        secret=True,
    )
    warehouse_url_file: str | None = option(
        None, "File with the warehouse's URL, first line; it wins over the URL."
    )
    json: bool = flag(False, "Print JSON instead of a screen.")
    watch: bool = flag(False, "Look again every two seconds, until Ctrl-C.")
    period_s: float = option(
        1.0,
        "Time between two readings of a device, which tells how complete an hour is; 0 where "
        "devices have none in common.",
        unit="s",
        minimum=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings(RedisSettings):
    warehouse_url: str = option(
        "", "The warehouse to compare with, as an SQLAlchemy URL; empty leaves it out.", secret=True
    )
    warehouse_url_file: str | None = option(
        None, "File with the warehouse's URL, first line; it wins over the URL."
    )
    json: bool = flag(False, "Print JSON instead of text.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetSettings(RedisSettings):
    yes: bool = flag(False, "Do not ask.")


@dataclass(frozen=True, slots=True, kw_only=True)
class WallClockSettings(RedisSettings):
    rewind: bool = flag(False, "Take back what was published for hours that are then not over.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunClockSettings(WallClockSettings):
    from_: str = flag("", "Pipeline time to start from (ISO 8601, UTC).")
    speed: float = flag(
        1.0, "Seconds of pipeline time per second.", minimum=0.001, maximum=1_000_000
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings(RedisSettings):
    devices: int = flag(1, "Devices, each with one reading a period.", minimum=1)
    days: int = flag(10, "How many days to write.", unit="days", minimum=1)
    start: str = flag("2025-01-01", "The first day (ISO 8601, UTC).")
    period_s: float = flag(1.0, "Time between two readings of a device.", unit="s", minimum=0.001)
    seed: int = flag(0, "Seed of the simulated temperatures.")
    lanes: int = flag(1, "Lanes that each day is shared out to.", minimum=1, maximum=MOST_LANES)
    packed: Packing = option(
        Packing.AUTO,
        "Many devices to an entry instead of an entry for each reading; "
        f"auto packs from {PACKED_FROM} devices on.",
        env=False,
    )
    reset: bool = flag(False, "Clear what the pipeline holds first, as the exercise does.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowAveragesSettings(RedisSettings):
    follow: bool = flag(False, "Go on with each average that comes, until Ctrl-C.")
    json: bool = flag(False, "Print JSON lines instead of text.")


@dataclass(frozen=True, kw_only=True)
class HoursSettings:
    """Hours of a warehouse. No slots: Python combines no two classes that have some."""

    warehouse_url: str = option(
        "sqlite:///hourglass.db", "The warehouse, as an SQLAlchemy URL.", secret=True
    )
    warehouse_url_file: str | None = option(
        None, "File with the warehouse's URL, first line; it wins over the URL."
    )
    from_: str = flag("", "The first hour (ISO 8601, UTC); empty begins with the first there is.")
    to: str = flag("", "The hours start before this; empty ends with the last there is.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings(HoursSettings):
    format: Format = option(Format.CSV, "What to write: json is an object a line.", env=False)
    output: str = flag("", "File to write; empty or - is standard output.")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillSettings(HoursSettings, RedisSettings):
    json: bool = flag(False, "Print JSON instead of text.")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineSettings(RedisSettings):
    json: bool = flag(False, "Print JSON lines instead of text.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedriveSettings(RedisSettings):
    id: str = flag("", "Only the reading with this id in its partition; empty takes all.")
    min_temp_f: float = flag(-150.0, "Lowest plausible temperature.", unit="°F")
    max_temp_f: float = flag(250.0, "Highest plausible temperature.", unit="°F")
    future_tolerance_s: float = flag(
        60.0, "How far ahead of the clock an event time may be, in real time.", unit="s", minimum=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisClusterSettings:
    masters: int = flag(1, "Masters that share the slots.", minimum=1, maximum=16)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    days: int = flag(10, "Simulated days.", unit="days", minimum=1, maximum=60)
    lanes: int = flag(1, "Lanes that each day is shared out to.", minimum=1, maximum=MOST_LANES)
    keep: bool = flag(False, "Go on afterwards and print the addresses, until Ctrl-C.")
