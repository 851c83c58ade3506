"""The producer's metrics, for whoever asks whether devices are heard."""

from __future__ import annotations

from enum import StrEnum
from threading import Lock

from prometheus_client import CollectorRegistry

from hourglass.instruments import Instrument
from hourglass.runtime import COMMON


class Loss(StrEnum):
    """Why a reading was given up."""

    BUFFER_FULL = "buffer_full"
    EXPIRED = "expired"
    REFUSED = "refused"
    SKIPPED = "skipped"
    STOPPED = "stopped"


PRODUCED = Instrument(
    name="hourglass_readings_produced_total",
    kind="counter",
    help="Readings the devices of this process have given, those skipped included: what is taken "
    "and what is dropped adds up to them in the end.",
    unit="readings",
)
TAKEN = Instrument(
    name="hourglass_readings_taken_total",
    kind="counter",
    help="Readings Redis has taken, each counted once.",
    unit="readings",
)
ENTRIES = Instrument(
    name="hourglass_entries_taken_total",
    kind="counter",
    help="Stream entries Redis has taken, each counted once; a packed one holds many readings.",
    unit="entries",
)
DROPPED = Instrument(
    name="hourglass_readings_dropped_total",
    kind="counter",
    help="Readings given up, by reason: buffer_full, expired (older than two days), "
    "skipped (the clock leapt), stopped (told to stop while Redis was away), "
    "refused (a key of their day was damaged to its end).",
    unit="readings",
    labels=("reason",),
    values=tuple(Loss),
)
BUFFERED = Instrument(
    name="hourglass_readings_buffered",
    kind="gauge",
    help="Readings held here: those that wait to be sent, and those sent and not confirmed. What "
    "is produced is taken, dropped or held.",
    unit="readings",
)
DUPLICATES = Instrument(
    name="hourglass_readings_duplicate_total",
    kind="counter",
    help="Readings sent again that had been taken after all; none was added twice.",
    unit="readings",
)
RETRIES = Instrument(
    name="hourglass_batches_retried_total",
    kind="counter",
    help="Tries that failed because Redis did not answer.",
    unit="tries",
)
DEVICES = Instrument(
    name="hourglass_producer_devices",
    kind="gauge",
    help="Devices this process stands for.",
    unit="devices",
)
BATCH = Instrument(
    name="hourglass_batch_readings",
    kind="histogram",
    help="Readings in a batch that Redis has taken.",
    unit="readings",
    buckets=(1, 10, 100, 250, 500, 1000, 2500, 5000, 10_000, 50_000),
)
INSTRUMENTS = (
    PRODUCED,
    TAKEN,
    ENTRIES,
    DROPPED,
    BUFFERED,
    DUPLICATES,
    RETRIES,
    DEVICES,
    BATCH,
    *COMMON,
)


class Instruments:
    """The live metrics of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._produced = PRODUCED.counter(registry)
        self._taken = TAKEN.counter(registry)
        self._entries = ENTRIES.counter(registry)
        self._dropped = DROPPED.counter(registry)
        self._buffered = BUFFERED.gauge(registry)
        self._duplicates = DUPLICATES.counter(registry)
        self._retries = RETRIES.counter(registry)
        self._devices = DEVICES.gauge(registry)
        self._batch = BATCH.histogram(registry)
        self.tally = {"produced": 0, "taken": 0, "dropped": 0}
        #: Of those dropped, because the process was told to stop.
        self.stopped = 0
        self._closed = False
        self._lock = Lock()

    def devices(self, count: int) -> None:
        self._devices.set(count)

    def produced(self, count: int) -> None:
        if self._add("produced", count):
            self._produced.inc(count)

    def taken(self, count: int, entries: int, *, duplicate: bool) -> None:
        if not self._add("taken", count):
            return
        self._taken.inc(count)
        self._batch.observe(count)
        self._entries.inc(entries)
        if duplicate:
            self._duplicates.inc(count)

    def dropped(self, count: int, reason: Loss) -> None:
        if not self._add("dropped", count):
            return
        self._dropped.labels(reason).inc(count)
        if reason is Loss.STOPPED:
            with self._lock:
                self.stopped += count

    def give_up_the_rest(self) -> None:
        """At the end: a silent Redis may still hold a batch, with more waiting behind it. A worker
        that hears of its batch after all is heard no more: its readings have been told of here."""
        with self._lock:
            rest = self.tally["produced"] - self.tally["taken"] - self.tally["dropped"]
            self.tally["dropped"] += rest
            self.stopped += rest
            self._closed = True
        self._dropped.labels(Loss.STOPPED).inc(rest)

    def _add(self, name: str, count: int) -> bool:
        """False if the tally is closed."""
        with self._lock:  # several threads count
            if not self._closed:
                self.tally[name] += count
            return not self._closed

    def buffered(self, count: int) -> None:
        self._buffered.set(count)

    def retried(self) -> None:
        self._retries.inc()
