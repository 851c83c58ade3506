"""The schemas of the API's documents. They declare and describe each field once; the OpenAPI
description is generated from them.

Times are UTC. Temperatures are in degrees Fahrenheit. An unknown value is null, not zero.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from hourglass.monitoring.problems import Problem

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Hour(Struct, frozen=True, kw_only=True):
    """The average of one hour: as published, or as revised since."""

    hour: Annotated[datetime, Meta(description="The hour's start.")]
    average_temp_f: float
    min_temp_f: float
    max_temp_f: float
    observations: Annotated[int, Meta(ge=1, description="Readings in the average.")]
    devices: Count
    late: Annotated[
        int,
        Meta(
            description="Readings that arrived after the hour was sealed. The average includes "
            "them if its revision is above 0."
        ),
    ]
    completeness: Annotated[
        Share | None,
        Meta(
            description="Readings in the average, divided by the readings expected of its devices; "
            "null if the devices have no common period."
        ),
    ]
    in_warehouse: Annotated[bool, Meta(description="Whether the warehouse has this average.")]
    revision: Annotated[
        int,
        Meta(
            ge=0,
            description="0: as published. Above 0: number of updates with late readings in the "
            "warehouse.",
        ),
    ]
    trace_id: Annotated[
        str | None,
        Meta(description="Trace that sealed the hour; null if tracing is off."),
    ] = None


class Averages(Struct, frozen=True, kw_only=True):
    """Hourly averages, in order. An hour without readings has no average."""

    start: Annotated[datetime, Meta(description="Start of the range, inclusive.")]
    end: Annotated[datetime, Meta(description="End of the range, exclusive.")]
    hours: list[Hour]
    next: Annotated[
        str | None,
        Meta(description="Reference to the next page, relative to this one; null on the last."),
    ] = None


class Partition(Struct, frozen=True, kw_only=True):
    """The stream of one day's raw readings, until it expires."""

    stream: str
    day: date
    shard: Annotated[
        str,
        Meta(
            description="#1, #2, …: number of the shard that holds the partition. Numbers may "
            "change when shards change."
        ),
    ]
    length: Annotated[int, Meta(ge=0, description="Entries in the stream.")]
    lag: Annotated[
        Count | None,
        Meta(description="Entries not delivered yet; null if Redis does not know it, not 0."),
    ]
    lag_readings: Annotated[
        Count | None,
        Meta(
            description="Readings not counted yet, including those in pending entries. A packed "
            "entry holds many readings. Null if lag is null."
        ),
    ]
    pending: Annotated[int, Meta(ge=0, description="Entries delivered and not counted yet.")]
    consumers: Count
    expires: Annotated[
        datetime | None,
        Meta(description="Real time at which it expires; null if it has no expiry, an error."),
    ]
    counted: Annotated[int, Meta(description="Readings counted, including late ones.")]
    late: int
    quarantined: Count
    removed: Annotated[
        Count | None,
        Meta(description="Entries that another program removed; null if it is unknown."),
    ]


class Partitions(Struct, frozen=True, kw_only=True):
    """The live partitions, oldest first."""

    partitions: list[Partition]


class OpenHour(Struct, frozen=True, kw_only=True):
    """An hour that is not sealed: in progress, or over but with readings still to be counted."""

    hour: Annotated[datetime, Meta(description="The hour's start.")]
    over: bool
    elapsed: Annotated[Share, Meta(description="Fraction of the hour that has passed.")]
    observations: Count
    devices: Count
    expected: Annotated[
        Count | None,
        Meta(
            description="Readings expected of its devices in the whole hour; null if they have no "
            "common period."
        ),
    ]
    completeness: Share | None
    average_temp_f: Annotated[float | None, Meta(description="Average of the readings so far.")]
    min_temp_f: float | None
    max_temp_f: float | None


class Clock(Struct, frozen=True, kw_only=True):
    """The pipeline clock, which defines days and hours."""

    time: datetime
    mode: Annotated[
        Literal["wall", "simulated", "manual"],
        Meta(description="Real time, simulated time, or time set by a replay."),
    ]
    speed: Annotated[float, Meta(description="Seconds of pipeline time per second.")]


class Source(Struct, frozen=True, kw_only=True):
    """The state of a data source of the page."""

    answers: bool
    as_of: Annotated[datetime, Meta(description="Real time of its last answer.")]


class RedisSource(Source, frozen=True, kw_only=True):
    """The state of Redis, which may answer although its data is corrupt."""

    readable: Annotated[
        bool | None,
        Meta(
            description="Whether its data can be read; null before the first poll. If false, the "
            "data shown is as of `as_of`."
        ),
    ]


class Status(Struct, frozen=True, kw_only=True):
    """The state of the pipeline and its current problems."""

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
        Count | None, Meta(description="Averages not loaded into the warehouse; null if unknown.")
    ]
    late: Annotated[
        int | None,
        Meta(description="Late readings in the live partitions; null if unknown."),
    ]
    quarantined: Annotated[
        int | None,
        Meta(description="Readings in quarantine, over all days kept; null if unknown."),
    ]
    problems: list[Problem]


class ErrorResponse(Struct, frozen=True, kw_only=True):
    """An error response (RFC 9457)."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
