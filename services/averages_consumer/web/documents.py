"""The documents of the API: each field once, with its meaning. The description of the API is made
from them.

Times are UTC. Temperatures are degrees Fahrenheit. Unknown is null, which is not zero.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Severity = Literal["error", "warning", "info"]


class Hour(Struct, frozen=True, kw_only=True):
    """The average of one hour: as it was published, or revised since."""

    hour: Annotated[datetime, Meta(description="The hour's start.")]
    average_temp_f: float
    min_temp_f: float
    max_temp_f: float
    observations: Annotated[int, Meta(ge=1, description="Readings in the average.")]
    devices: Count
    late: Annotated[
        int,
        Meta(
            description="Readings that came after the hour was sealed; in the average where its "
            "revision is above 0, and else not."
        ),
    ]
    completeness: Annotated[
        Share | None,
        Meta(
            description="Readings in the average, of those that its devices would give in a whole "
            "hour; null where devices have no period in common."
        ),
    ]
    in_warehouse: Annotated[bool, Meta(description="Whether the warehouse has this average.")]
    revision: Annotated[
        int,
        Meta(
            ge=0,
            description="0: as it was published. Above: how often late readings were taken into it "
            "in the warehouse since.",
        ),
    ]
    trace_id: Annotated[
        str | None,
        Meta(description="Trace that sealed the hour; null where traces are off."),
    ] = None


class Averages(Struct, frozen=True, kw_only=True):
    """Hourly averages, in order. An hour without readings has none."""

    start: Annotated[datetime, Meta(description="The hours are from this one on …")]
    end: Annotated[datetime, Meta(description="… and before this one.")]
    hours: list[Hour]
    next: Annotated[
        str | None,
        Meta(description="Where the hours go on, relative to this document; null if they do not."),
    ] = None


class Partition(Struct, frozen=True, kw_only=True):
    """The stream of one day's raw readings, as long as it lives."""

    stream: str
    day: date
    shard: Annotated[
        str,
        Meta(
            description="#1, #2, …: tells the shards that hold partitions apart, as long as they "
            "are the same."
        ),
    ]
    length: Annotated[int, Meta(ge=0, description="Entries in the stream.")]
    lag: Annotated[
        Count | None,
        Meta(description="Entries not delivered yet; null if Redis cannot tell, which is not 0."),
    ]
    lag_readings: Annotated[
        Count | None,
        Meta(
            description="Readings not counted yet, those in pending entries included: a packed "
            "entry holds many; null where lag is."
        ),
    ]
    pending: Annotated[int, Meta(ge=0, description="Entries delivered and not counted yet.")]
    consumers: Count
    expires: Annotated[
        datetime | None,
        Meta(description="Real time at which it expires; null if it never does, which is wrong."),
    ]
    counted: Annotated[int, Meta(description="Readings counted, the late ones included.")]
    late: int
    quarantined: Count


class Partitions(Struct, frozen=True, kw_only=True):
    """The partitions that live, oldest first."""

    partitions: list[Partition]


class OpenHour(Struct, frozen=True, kw_only=True):
    """An hour that is not sealed: in progress, or over and waiting for readings to be counted."""

    hour: Annotated[datetime, Meta(description="The hour's start.")]
    over: bool
    elapsed: Annotated[Share, Meta(description="How much of the hour has passed.")]
    observations: Count
    devices: Count
    expected: Annotated[
        Count | None,
        Meta(
            description="Readings that its devices would give in the whole hour; null where they "
            "have no period in common."
        ),
    ]
    completeness: Share | None
    average_temp_f: Annotated[float | None, Meta(description="As it is so far.")]
    min_temp_f: float | None
    max_temp_f: float | None


class Clock(Struct, frozen=True, kw_only=True):
    """The pipeline clock, by which days and hours go."""

    time: datetime
    mode: Annotated[Literal["wall", "running", "driven"], Meta(description="What it follows.")]
    speed: Annotated[float, Meta(description="Seconds of pipeline time per second.")]


class Source(Struct, frozen=True, kw_only=True):
    """Where the page has its data from."""

    answers: bool
    as_of: Annotated[datetime, Meta(description="Real time of its last answer.")]


class RedisSource(Source, frozen=True, kw_only=True):
    """Redis, which may answer and yet not be as the pipeline makes it."""

    readable: Annotated[
        bool | None,
        Meta(
            description="Whether what it says can be read; null before the first look at it. What "
            "is shown is as of `as_of` where it cannot."
        ),
    ]


class Trouble(Struct, frozen=True, kw_only=True):
    """One thing that is wrong now, in one line. Code and `about` name it as long as it lasts."""

    code: str
    severity: Severity
    text: str
    about: Annotated[str, Meta(description="The stream that it is with; empty if none.")] = ""


class Status(Struct, frozen=True, kw_only=True):
    """The pipeline at a glance, and what is wrong with it now."""

    served_by: str
    real_time: datetime
    clock: Clock
    redis: RedisSource
    warehouse: Source
    published_until: Annotated[
        datetime | None, Meta(description="End of the last published hour; null before the first.")
    ]
    open_hours: list[OpenHour]
    lag: Annotated[
        Count | None,
        Meta(description="Entries not delivered yet, in all partitions; null if one is unknown."),
    ]
    lag_readings: Annotated[
        Count | None,
        Meta(description="Readings not counted yet, in all partitions; null if one is unknown."),
    ]
    pending: Annotated[
        Count | None,
        Meta(description="Entries delivered and not counted yet; null if unknown."),
    ]
    to_load: Annotated[
        Count | None, Meta(description="Averages on their way to the warehouse; null if unknown.")
    ]
    late: Annotated[
        int | None,
        Meta(description="Late readings in the partitions that live; null if unknown."),
    ]
    quarantined: Annotated[
        int | None,
        Meta(description="Readings in quarantine, of all days kept; null if unknown."),
    ]
    troubles: list[Trouble]


class Problem(Struct, frozen=True, kw_only=True):
    """Why a request was not answered (RFC 9457)."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
