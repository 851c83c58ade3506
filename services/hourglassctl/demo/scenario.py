"""The demo's scenario: run simulated days, kill an aggregator, audit the result."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from averages_consumer.warehouse import Warehouse
from hourglass.cluster.client import Cluster
from hourglass.cluster.partitions import candidates
from hourglass.cluster.publish_state import Result, frontier_ms
from hourglass.errors import HourglassError
from hourglass.model.clock import ClockSpec, Mode, PipelineClock
from hourglass.model.devices import device_names
from hourglass.model.keys import DAY_MS, GROUP, HOUR_MS, HOURS, iso
from hourglass.monitoring.pipeline_status import PipelineStatus, collect
from hourglassctl.audit.collect import audit
from hourglassctl.demo.result import DemoResult, expected_hours, judge
from hourglassctl.demo.screen import View
from hourglassctl.local.processes import Processes
from hourglassctl.replay import EXERCISE_START_MS
from producer.simulator import Sensors

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

    def run(self) -> DemoResult:
        """Start the services, run the days, kill an aggregator half-way, audit."""
        self._start_services()
        _, real_ms = self.cluster.clock()
        self._set_clock(EXERCISE_START_MS, real_ms + HEAD_START_MS, SPEED)
        half_way = EXERCISE_START_MS + self.days * DAY_MS // 2 + 6 * HOUR_MS
        self._watch_until(lambda seen: seen.instant.now_ms >= half_way)
        self._kill_an_aggregator()
        self._watch_until(lambda _: not any(map(self.processes.running, PRODUCERS)))
        give_up = time.monotonic() + PATIENCE_S
        self._watch_until(lambda _: self._all_loaded() or time.monotonic() > give_up)
        return self._judge()

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
        now = iso(self.clock.look().now_ms)
        self.view.say(f"{now}  {victim} is killed with {held:,} readings pending")
        give_up = time.monotonic() + PATIENCE_S
        self._watch_until(
            lambda _: self._reclaimed(other) - before >= held or time.monotonic() > give_up
        )
        reclaimed = self._reclaimed(other) - before
        now = iso(self.clock.look().now_ms)
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
        partitions = candidates(self.cluster, self.clock.look())
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
        frontier = frontier_ms(self.cluster)
        done = frontier is not None and frontier >= self.end_ms - HOUR_MS
        return done and len(self.warehouse.hours()) >= self.days * HOURS

    def _judge(self) -> DemoResult:
        seen = collect(self.cluster, self.clock.refresh())
        found = audit(self.cluster, seen.instant, self.warehouse)
        rows = self.warehouse.rows(EXERCISE_START_MS, self.end_ms)
        published = {row.start_ms: Result(row.observations, row.sum_milli_f) for row in rows}
        producers = [
            Sensors(device_names(name, 1), seed=SEED, period_ms=1000) for name in PRODUCERS
        ]
        tallies = [json.loads(self.processes.output(name).read_text()) for name in PRODUCERS]
        return judge(
            expected_hours(producers, EXERCISE_START_MS, self.end_ms),
            published,
            found.late_by_hour,
            produced=sum(tally["produced"] for tally in tallies),
            audit=found,
        )
