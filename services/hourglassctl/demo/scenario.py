"""The demo's scenario: run simulated days, kill an aggregator, and show the pipeline."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from averages_consumer.warehouse import Warehouse
from hourglass.cluster.client import Cluster
from hourglass.cluster.partitions import candidates
from hourglass.cluster.published import published_through_ms
from hourglass.errors import HourglassError
from hourglass.model.clock import ClockSpec, Mode, PipelineClock
from hourglass.model.keys import DAY_MS, GROUP, HOUR_MS, HOURS, iso
from hourglass.monitoring.pipeline_status import PipelineStatus, collect
from hourglassctl.local.processes import Processes
from hourglassctl.render import published_until, screen
from hourglassctl.replay import EXERCISE_START_MS

_EVENTS_SHOWN = 8

#: Without a terminal, the interval between two lines of progress.
_LINE_S = 5.0


class View:
    """Shows the pipeline status and events, and detects when partitions appear and expire."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._events: deque[str] = deque(maxlen=_EVENTS_SHOWN)
        self._alive: dict[str, str] = {}
        self._counted: dict[str, int] = {}
        self._rate = 0.0
        self._since = time.monotonic()
        self._next_line = 0.0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, event: str) -> None:
        """Show an event as a line."""
        self._events.append(event)
        if self._live is None:
            self._console.print(event, highlight=False, markup=False, soft_wrap=True)

    def show(self, pipeline: PipelineStatus) -> None:
        """Update the screen, or print a line of progress when it is due."""
        self._notice_partitions(pipeline)
        self._measure(pipeline)
        if self._live:
            lines = Text("\n".join(self._events))
            rate = Text(f"{self._rate:,.0f} readings counted per second\n")
            self._live.update(Group(screen(pipeline, title=self._title), rate, lines), refresh=True)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_S
            lags = [view.state.lag for view in pipeline.partitions]
            lag = "unknown" if None in lags else f"{sum(lag or 0 for lag in lags):,}"
            self._console.print(
                f"{iso(pipeline.instant.now_ms)}  published until {published_until(pipeline)}, "
                f"lag {lag}, {self._rate:,.0f} readings/s",
                highlight=False,
                soft_wrap=True,
            )

    def _notice_partitions(self, pipeline: PipelineStatus) -> None:
        now = iso(pipeline.instant.now_ms)
        alive = {view.state.stream: view.state.shard for view in pipeline.partitions}
        for stream in alive.keys() - self._alive.keys():
            self.say(f"{now}  {stream} appears on shard {alive[stream]}")
        for stream in self._alive.keys() - alive.keys():
            self.say(f"{now}  {stream} has expired")
        self._alive = alive

    def _measure(self, pipeline: PipelineStatus) -> None:
        """Update the rate of counted readings per second, over the live partitions."""
        before = sum(self._counted.values())
        for view in pipeline.partitions:
            self._counted[view.state.stream] = view.counted
        now = time.monotonic()
        elapsed = now - self._since
        if before and elapsed > 0:  # skip readings counted before the first update
            momentary = (sum(self._counted.values()) - before) / elapsed
            self._rate = 0.9 * self._rate + 0.1 * momentary if self._rate else momentary
        self._since = now


PRODUCERS = ("producer-1", "producer-2", "producer-3")
AGGREGATORS = ("aggregator-1", "aggregator-2")
CONSUMER = "averages-consumer"
SERVICES = (*PRODUCERS, *AGGREGATORS, CONSUMER)

#: The listeners, each with a port: the services, and the web page of the averages consumer.
PAGE = "page"
LISTENERS = (*SERVICES, PAGE)
SEED = 2025

#: Ten days in a minute.
SPEED = 14_400.0

#: Delay before the clock starts; the services notice a set clock within a second.
HEAD_START_MS = 2_500
FRAME_S = 0.15

#: Time for an aggregator to continue between two attempts to stop it with entries pending.
_BETWEEN_STOPS_S = 0.01

#: Time-out, in real time, for the start-up of the services and for the last hour to be loaded.
PATIENCE_S = 60.0

#: Speed of the clock after the demo with --keep: an hour per minute.
KEEP_SPEED = 60.0
ENVIRONMENT = {
    "HOURGLASS_HTTP_HOST": "127.0.0.1",
    "HOURGLASS_SEED": str(SEED),
    "HOURGLASS_LATENESS_S": "2",
    # A day lasts six seconds.
    "HOURGLASS_PRODUCER_IDLE_S": "1",
    "HOURGLASS_CLAIM_IDLE_MS": "1000",
    "HOURGLASS_SEAL_EVERY_MS": "50",
    "HOURGLASS_LINGER_MS": "20",
    "HOURGLASS_BUFFER_READINGS": "1000000",
}


class DemoFailed(HourglassError):
    """The demo could not continue; the message has the reason."""


@dataclass(slots=True, kw_only=True)
class DemoScenario:
    """One run of the demo, with its own cluster and processes. `check` raises to end it."""

    days: int
    view: View
    cluster: Cluster
    clock: PipelineClock
    processes: Processes
    ports: dict[str, int]
    warehouse: Warehouse
    check: Callable[[], None]

    @property
    def end_ms(self) -> int:
        return EXERCISE_START_MS + self.days * DAY_MS

    def run(self) -> None:
        """Start the services, run the days, kill an aggregator half-way."""
        self._start_services()
        _, real_ms = self.cluster.clock()
        self._set_clock(EXERCISE_START_MS, real_ms + HEAD_START_MS, SPEED)
        half_way = EXERCISE_START_MS + self.days * DAY_MS // 2 + 6 * HOUR_MS
        self._watch_until(lambda seen: seen.instant.now_ms >= half_way)
        self._kill_an_aggregator()
        self._watch_until(lambda _: not any(map(self.processes.running, PRODUCERS)))
        give_up = time.monotonic() + PATIENCE_S
        self._watch_until(lambda _: self._all_loaded() or time.monotonic() > give_up)

    def go_on(self) -> None:
        """Continue at KEEP_SPEED until interrupted, from the end of the days, whatever time the
        clock has reached meanwhile."""
        _, real_ms = self.cluster.clock()
        self._set_clock(self.end_ms, real_ms + HEAD_START_MS, KEEP_SPEED)
        for name in PRODUCERS:
            self.processes.start(name, "producer", "--http-port", str(self.ports[name]))
        while True:
            self.check()
            self.view.show(collect(self.cluster, self.clock.refresh()))
            time.sleep(1.0)

    def _start_services(self) -> None:
        # Until all of them are ready the clock stands just before the first second.
        self._set_clock(EXERCISE_START_MS, 1 << 52, SPEED)
        for name in PRODUCERS:
            self._start(name, "producer", "--until", iso(self.end_ms))
        for name in AGGREGATORS:
            self._start(name, "aggregator")
        self._start(CONSUMER, "averages_consumer", "--web-port", str(self.ports[PAGE]))
        give_up = time.monotonic() + PATIENCE_S
        while not all(self.processes.ready(name) for name in SERVICES):
            self._check_processes()
            if time.monotonic() > give_up:
                raise DemoFailed(f"the services are not ready after {PATIENCE_S:.0f} s")
            time.sleep(0.05)

    def _start(self, name: str, module: str, *arguments: str) -> None:
        self.processes.start(name, module, "--http-port", str(self.ports[name]), *arguments)

    def _set_clock(self, origin_ms: int, origin_real_ms: int, speed: float) -> None:
        self.clock.set(
            ClockSpec(
                mode=Mode.SIMULATED,
                origin_ms=origin_ms,
                origin_real_ms=origin_real_ms,
                speed=speed,
            )
        )

    def _watch_until(self, done: Callable[[PipelineStatus], bool]) -> None:
        while True:
            self.check()
            seen = collect(self.cluster, self.clock.refresh())
            self.view.show(seen)
            self._check_processes()
            if done(seen):
                return
            time.sleep(FRAME_S)

    def _check_processes(self) -> None:
        if failure := self.processes.failure():
            raise DemoFailed(failure)

    def _kill_an_aggregator(self) -> None:
        """Kill an aggregator in the middle of a batch, so that another one has to recover it."""
        victim, other = AGGREGATORS
        before = self._reclaimed(other)
        held = self._stop_with_entries(victim)
        self.processes.signal(victim, signal.SIGKILL)
        now = iso(self.clock.current().now_ms)
        self.view.say(f"{now}  {victim} is killed with {held:,} readings pending")
        give_up = time.monotonic() + PATIENCE_S
        self._watch_until(
            lambda _: self._reclaimed(other) - before >= held or time.monotonic() > give_up
        )
        reclaimed = self._reclaimed(other) - before
        now = iso(self.clock.current().now_ms)
        self.view.say(f"{now}  {other} has reclaimed {reclaimed:,} of them")

    def _stop_with_entries(self, aggregator: str) -> int:
        """Send SIGSTOP while the aggregator has entries pending; return their number, 0 after a
        time-out."""
        give_up = time.monotonic() + PATIENCE_S
        while True:
            self.processes.signal(aggregator, signal.SIGSTOP)
            # Between the two reads Redis processes the commands sent before the stop.
            held = min(self._held_by(aggregator), self._held_by(aggregator))
            if held or time.monotonic() > give_up:
                return held
            self.processes.signal(aggregator, signal.SIGCONT)
            time.sleep(_BETWEEN_STOPS_S)

    def _held_by(self, aggregator: str) -> int:
        """The number of pending entries of this process's consumers."""
        partitions = candidates(self.cluster, self.clock.current())
        groups = self.cluster.pipeline(
            [("XINFO CONSUMERS", partition.stream, GROUP) for partition in partitions]
        )
        return sum(
            consumer["pending"]
            for consumers in groups
            if not isinstance(consumers, Exception)  # the partition or its group does not exist
            for consumer in consumers
            if consumer["name"].decode().startswith(f"{aggregator}-")
        )

    def _reclaimed(self, aggregator: str) -> int:
        return int(self.processes.metric(aggregator, "hourglass_entries_reclaimed_total") or 0)

    def _all_loaded(self) -> bool:
        published_through = published_through_ms(self.cluster)
        done = published_through is not None and published_through >= self.end_ms - HOUR_MS
        return done and len(self.warehouse.hours()) >= self.days * HOURS
