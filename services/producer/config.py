"""The producer's options."""

from __future__ import annotations

from dataclasses import dataclass

from hourglass.model.keys import MOST_LANES
from hourglass.service.config import ServiceSettings, option
from producer.entry_format import PACKED_FROM, Packing


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerSettings(ServiceSettings):
    """The options of a producer process."""

    devices: int = option(1, "Devices that this process simulates.", minimum=1)
    period_s: float = option(1.0, "Time between two readings of a device.", unit="s", minimum=0.001)
    lanes: int = option(
        1,
        "Number of lanes (streams, on different shards) that each day is spread over. The value "
        "of the first producer of a day applies to all producers until midnight, UTC.",
        minimum=1,
        maximum=MOST_LANES,
    )
    seed: int = option(0, "Seed of the simulated temperatures.")
    until: str = option(
        "", "Pipeline time (ISO 8601, UTC) at which to finish and exit; empty means no end."
    )
    packed: Packing = option(
        Packing.AUTO,
        "Whether to pack the readings of many devices into one entry; "
        f"auto packs from {PACKED_FROM} devices on.",
    )
    batch_readings: int = option(
        1000,
        "Maximum readings in one batch of unpacked readings.",
        unit="readings",
        minimum=1,
        maximum=5000,
    )
    linger_ms: int = option(
        50, "Maximum time that readings wait to be sent in one batch.", unit="ms", minimum=1
    )
    buffer_readings: int = option(
        100_000,
        "Capacity of the buffer for readings while Redis is unreachable; when it is full, the "
        "oldest are dropped and counted.",
        unit="readings",
        minimum=1,
    )
    wait_replicas: int = option(
        0, "Number of replicas that must confirm a batch before it counts as stored.", minimum=0
    )
    wait_timeout_ms: int = option(
        1000,
        "Maximum wait for these replicas before the batch is sent again.",
        unit="ms",
        minimum=1,
    )
    tally_file: str = option(
        "",
        "File for the tally that is printed at exit: readings produced, taken and dropped.",
    )
