"""The options of each subcommand, and the connection that most of them make."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import partial

from hourglass.cluster.client import Cluster
from hourglass.errors import ConfigurationError
from hourglass.model.averages import LAST_MS
from hourglass.model.clock import Instant, PipelineClock
from hourglass.model.keys import MOST_LANES, parse_time
from hourglass.service.config import RedisSettings, option, secret
from hourglassctl.history_values import Fold, Form, Unit
from producer.entry_format import PACKED_FROM, Packing

#: An option without environment variable, because it applies to one call only.
flag = partial(option, env=False)


class Format(StrEnum):
    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"


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
    watch: bool = flag(False, "Update every two seconds until Ctrl-C.")
    period_s: float = option(
        1.0,
        "Time between two readings of a device, used to compute the completeness of an hour; 0 if "
        "the devices have no common period.",
        unit="s",
        minimum=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings(RedisSettings):
    warehouse_url: str = option(
        "", "The warehouse to compare with, as an SQLAlchemy URL; empty omits it.", secret=True
    )
    warehouse_url_file: str | None = option(
        None, "File with the warehouse's URL in its first line; overrides the URL."
    )
    json: bool = flag(False, "Print JSON instead of text.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetSettings(RedisSettings):
    yes: bool = flag(False, "Do not ask for confirmation.")


@dataclass(frozen=True, slots=True, kw_only=True)
class WallClockSettings(RedisSettings):
    rewind: bool = flag(False, "Unpublish the averages of hours that are not over at the new time.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunClockSettings(WallClockSettings):
    from_: str = flag("", "Pipeline time to start from (ISO 8601, UTC).")
    speed: float = flag(
        1.0, "Seconds of pipeline time per second.", minimum=0.001, maximum=1_000_000
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings(RedisSettings):
    file: str = option(
        "",
        "File with readings: CSV (plain or gzip), Parquet, or a log of Zigbee2MQTT; by default "
        "the exercise's data set is written.",
        env=False,
        positional=True,
    )
    time: str = flag("", "Column of times; by default it is recognised.")
    temperature: str = flag("", "Column of temperatures; by default it is recognised.")
    device: str = flag("", "Column of device names; by default it is recognised.")
    name: str = flag("file", "Device name of a file without a column of devices.")
    unit: Unit | None = option(
        None, "Unit of the temperatures; by default it is recognised.", env=False
    )
    timezone: str = flag("UTC", "Time zone of times without an offset, such as Europe/Berlin.")
    fold: Fold = option(
        Fold.REFUSE,
        "What to do with a local time that occurs twice when clocks go back: refuse it as a bad "
        "row, or take the first.",
        env=False,
    )
    time_format: str = flag("", "Format of times, as for strptime; by default it is recognised.")
    delimiter: str = flag("", "Delimiter of a CSV file; by default it is recognised.")
    decimal_comma: bool = flag(False, "Temperatures have a decimal comma.")
    missing: str = flag("", "Further texts, separated by commas, that stand for no temperature.")
    quality: str = flag(
        "", "Column and texts of good values, as COLUMN=TEXT,TEXT; other rows are left out."
    )
    devices: int = flag(1, "Number of devices, each with one reading per period.", minimum=1)
    days: int = flag(10, "Number of days to write.", unit="days", minimum=1)
    start: str = flag("2025-01-01", "The first day (ISO 8601, UTC).")
    period_s: float = flag(1.0, "Time between two readings of a device.", unit="s", minimum=0.001)
    seed: int = flag(0, "Seed of the simulated temperatures.")
    lanes: int = flag(
        1, "Number of lanes that each day is spread over.", minimum=1, maximum=MOST_LANES
    )
    packed: Packing = option(
        Packing.AUTO,
        "Whether to pack the readings of many devices into one entry; "
        f"auto packs from {PACKED_FROM} devices on.",
        env=False,
    )
    reset: bool = flag(False, "Delete all data of the pipeline first, as the exercise does.")

    @property
    def form(self) -> Form:
        return Form(**{each.name: getattr(self, each.name) for each in fields(Form)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowAveragesSettings(RedisSettings):
    follow: bool = flag(False, "Show new averages as they are published, until Ctrl-C.")
    json: bool = flag(False, "Print JSON lines instead of text.")


@dataclass(frozen=True, kw_only=True)
class HoursSettings:
    """A range of hours in a warehouse. No slots: Python cannot combine two base classes with
    slots."""

    warehouse_url: str = option(
        "sqlite:///hourglass.db", "The warehouse, as an SQLAlchemy URL.", secret=True
    )
    warehouse_url_file: str | None = option(
        None, "File with the warehouse's URL in its first line; overrides the URL."
    )
    from_: str = flag("", "Start of the range, inclusive (ISO 8601, UTC); empty is no limit.")
    to: str = flag("", "End of the range, exclusive (ISO 8601, UTC); empty is no limit.")

    @property
    def hours(self) -> range:
        """The range, in ms since the epoch. Raises ConfigurationError."""
        first = parse_time(self.from_, option="--from") if self.from_ else 0
        end = parse_time(self.to, option="--to") if self.to else LAST_MS
        if not 0 <= first <= end <= LAST_MS:
            raise ConfigurationError(
                "--from is later than --to: give two times in order, since 1970"
            )
        return range(first, end)

    @property
    def url(self) -> str:
        """The warehouse's URL. Raises ConfigurationError."""
        return secret(self.warehouse_url, self.warehouse_url_file, "--warehouse-url-file")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings(HoursSettings):
    format: Format = option(Format.CSV, "Output format; json is one object per line.", env=False)
    output: str = flag("", "File to write; empty or - is standard output.")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillSettings(HoursSettings, RedisSettings):
    json: bool = flag(False, "Print JSON instead of text.")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineSettings(RedisSettings):
    json: bool = flag(False, "Print JSON lines instead of text.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedriveSettings(RedisSettings):
    id: str = flag("", "Only the reading with this id in its partition; empty is all readings.")
    min_temp_f: float = flag(-150.0, "Lowest plausible temperature.", unit="°F")
    max_temp_f: float = flag(250.0, "Highest plausible temperature.", unit="°F")
    future_tolerance_s: float = flag(
        60.0,
        "Maximum time that an event time may be ahead of the clock, in real time.",
        unit="s",
        minimum=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisClusterSettings:
    masters: int = flag(1, "Number of masters that share the slots.", minimum=1, maximum=16)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    days: int = flag(10, "Number of simulated days.", unit="days", minimum=1, maximum=60)
    lanes: int = flag(
        1, "Number of lanes that each day is spread over.", minimum=1, maximum=MOST_LANES
    )
    keep: bool = flag(False, "Keep the pipeline running afterwards, and print its URLs.")


@contextmanager
def reached(settings: RedisSettings) -> Generator[tuple[Cluster, Instant]]:
    """Connect to the cluster and read the pipeline clock."""
    with closing(settings.connect()) as cluster:
        yield cluster, PipelineClock(cluster).refresh()
