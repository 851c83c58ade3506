"""The aggregator's options."""

from __future__ import annotations

from dataclasses import dataclass

from hourglass.errors import ConfigurationError
from hourglass.model.clock import Instant
from hourglass.model.readings import MILLI, Rules, Unusable, milli_f
from hourglass.service.config import ServiceSettings, claim_idle_option, option

#: So that an hour's sum of thousandths keeps within 18 digits, with a billion readings in it.
PLAUSIBLE_F = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregatorSettings(ServiceSettings):
    """The options of an aggregator."""

    lateness_s: float = option(
        5.0,
        "How long after its end an hour waits for readings, in real time; "
        "0 when the clock is manual.",
        unit="s",
        minimum=0,
    )
    producer_idle_s: float = option(
        30.0,
        "How long an hour waits for a producer that is behind and sends nothing, and after an "
        "outage for every producer, in real time; 0 when the clock is manual.",
        unit="s",
        minimum=0,
    )
    claim_idle_ms: int = claim_idle_option()
    delivery_limit: int = option(
        5,
        "Deliveries without being counted after which an entry goes to quarantine.",
        minimum=4,
    )
    max_entry_bytes: int = option(
        1_000_000,
        "Bytes of names and values above which an entry goes to quarantine.",
        unit="bytes",
        minimum=65_536,  # every packed entry that can be used is smaller
    )
    batch_entries: int = option(
        1000, "Most entries read at once.", unit="entries", minimum=1, maximum=5000
    )
    linger_ms: int = option(
        50, "How long entries may wait to be read together.", unit="ms", minimum=0
    )
    seal_every_ms: int = option(
        500, "Interval of the search for hours to seal and publish.", unit="ms", minimum=10
    )
    period_s: float = option(
        1.0,
        "Time between two readings of a device, which tells how complete an hour is; 0 where "
        "devices have none in common.",
        unit="s",
        minimum=0,
    )
    min_temp_f: float = option(
        -150.0,
        "Lowest plausible temperature.",
        unit="°F",
        minimum=-PLAUSIBLE_F,
        maximum=PLAUSIBLE_F,
    )
    max_temp_f: float = option(
        250.0,
        "Highest plausible temperature.",
        unit="°F",
        minimum=-PLAUSIBLE_F,
        maximum=PLAUSIBLE_F,
    )
    no_reading_f: str = option(
        "",
        "Temperatures that sensors send in place of a reading, with commas between them, such as "
        "-127,85,999.9: they go to quarantine.",
        unit="°F",
    )
    future_tolerance_s: float = option(
        60.0,
        "How far ahead of the clock an event time may be, in real time; "
        "without limit under a manual clock.",
        unit="s",
        minimum=0,
    )

    def __post_init__(self) -> None:
        """Raises ConfigurationError."""
        ServiceSettings.__post_init__(self)  # super() knows no class with slots
        _ = self.no_reading_milli_f

    @property
    def no_reading_milli_f(self) -> frozenset[int]:
        """`no_reading_f` in thousandths."""
        values = filter(None, map(str.strip, self.no_reading_f.split(",")))
        try:
            return frozenset(milli_f(value.encode()) for value in values)
        except Unusable:
            raise ConfigurationError(
                f"--no-reading-f is {self.no_reading_f!r}: give numbers with commas between them"
            ) from None

    def rules(self, instant: Instant) -> Rules:
        """Which readings can be used at `instant`."""
        tolerance_ms = round(self.future_tolerance_s * 1000)
        return Rules(
            min_milli_f=round(self.min_temp_f * MILLI),
            max_milli_f=round(self.max_temp_f * MILLI),
            overrun_ms=round(self.lateness_s * 1000),
            max_entry_bytes=self.max_entry_bytes,
            latest_ms=instant.spec.latest_plausible(instant.real_ms, tolerance_ms),
            no_reading_milli_f=self.no_reading_milli_f,
        )
