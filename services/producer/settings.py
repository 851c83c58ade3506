"""The producer's options."""

from __future__ import annotations

from dataclasses import dataclass

from hourglass.keys import MOST_LANES
from hourglass.settings import ServiceSettings, option
from producer.layout import PACKED_FROM, Packing


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerSettings(ServiceSettings):
    """What a producer process is told."""

    devices: int = option(1, "Devices this process stands for.", minimum=1)
    period_s: float = option(1.0, "Time between two readings of a device.", unit="s", minimum=0.001)
    lanes: int = option(
        1,
        "Streams that a day is shared out to, on different shards; 1 keeps it on one. What the "
        "first producer of a day asks for holds for all until midnight, UTC.",
        minimum=1,
        maximum=MOST_LANES,
    )
    seed: int = option(0, "Seed of the simulated temperatures.")
    until: str = option(
        "", "Pipeline time (ISO 8601, UTC) at which to finish and exit; empty runs for ever."
    )
    packed: Packing = option(
        Packing.AUTO,
        "Many devices to an entry instead of an entry for each reading; "
        f"auto packs from {PACKED_FROM} devices on.",
    )
    batch_readings: int = option(
        1000,
        "Most readings in one batch, where they are not packed.",
        unit="readings",
        minimum=1,
        maximum=5000,
    )
    linger_ms: int = option(
        50, "How long readings may wait to be sent together.", unit="ms", minimum=1
    )
    buffer_readings: int = option(
        100_000,
        "Readings kept while Redis is away; when full the oldest are dropped and counted.",
        unit="readings",
        minimum=1,
    )
    wait_replicas: int = option(
        0, "Replicas that must confirm a batch before it counts as taken.", minimum=0
    )
    wait_timeout_ms: int = option(
        1000, "How long to wait for them before trying again.", unit="ms", minimum=1
    )
    tally_file: str = option(
        "",
        "File that gets the tally which is printed at the end: the readings produced, taken and "
        "dropped.",
    )
