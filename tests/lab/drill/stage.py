"""What a fault happens to: a cluster of its own, services under load, and a warehouse."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import ceil, inf
from pathlib import Path
from random import Random
from threading import Event, Thread
from types import TracebackType
from typing import Self, TypeVar

from averages_consumer.warehouse import Warehouse, WarehouseUnreachable
from hourglass.cluster.client import Cluster
from hourglass.cluster.connect import connect
from hourglass.cluster.partitions import candidates, lanes_of
from hourglass.cluster.published import published_through_ms
from hourglass.errors import HourglassError, Unreachable
from hourglass.model.clock import ClockSpec, Mode, PipelineClock
from hourglass.model.hour_records import decode_hours
from hourglass.model.keys import AVERAGES_GROUP, GROUP, HOUR_MS, Keyspace, Partition, iso
from hourglass.monitoring.stream_stats import StreamState, read_streams
from hourglassctl.audit.compare import Result
from hourglassctl.local.processes import ProcessGroup
from hourglassctl.replay import EXERCISE_START_MS
from tests.lab.drill.reckoning import Ledger
from tests.support.cluster import EmbeddedCluster, Node
from tests.support.postgres import NoPostgres, Postgres, find_binaries
from tests.support.processes import ObservedProcesses

T = TypeVar("T")

PRODUCERS = ("producer-1", "producer-2")
AGGREGATORS = ("aggregator-1", "aggregator-2", "aggregator-3")
CONSUMERS = ("consumer-1", "consumer-2")
MODULES = {"producer": "producer", "aggregator": "aggregator", "consumer": "averages_consumer"}
SEED = 2025
PERIOD_MS = 1000
#: An hour passes in one second and a half.
SPEED = 2400.0
#: The services learn within a second that the clock has been set.
HEAD_START_MS = 2_500
#: Of real time, for whatever should happen on a busy machine.
PATIENCE_S = 120.0
CLAIM_IDLE_S = 1.0
#: Of pipeline time: how often it is asked which hours have come.
LOOK_EVERY_S = 48.0
#: No node is called failing because a busy machine has no time for it.
NODE_TIMEOUT_MS = 10_000

ENVIRONMENT = {
    "HOURGLASS_HTTP_HOST": "127.0.0.1",
    "HOURGLASS_HTTP_PORT": "0",
    "HOURGLASS_WEB_PORT": "0",
    "HOURGLASS_SEED": str(SEED),
}
#: Where an hour passes in a second and a half, the services wait for less than they do in life.
HASTE = {
    "HOURGLASS_LATENESS_S": "1",
    "HOURGLASS_PRODUCER_IDLE_S": "5",
    "HOURGLASS_CLAIM_IDLE_MS": str(round(CLAIM_IDLE_S * 1000)),
    "HOURGLASS_SEAL_EVERY_MS": "100",
    "HOURGLASS_LINGER_MS": "20",
    "HOURGLASS_BUFFER_READINGS": "4000000",
    "HOURGLASS_FUTURE_TOLERANCE_S": "1",
}


class DrillFailed(HourglassError):
    """The drill itself could not go on; the message says why."""


def wait(check: Callable[[], T], what: str, *, within_s: float = PATIENCE_S) -> T:
    """The first true value of `check`. Raises DrillFailed."""
    give_up = time.monotonic() + within_s
    while True:
        try:
            if value := check():
                return value
        except Unreachable:  # it may be what has been done to it
            pass
        if time.monotonic() > give_up:
            raise DrillFailed(f"{what}: not within {within_s:.0f} s")
        time.sleep(0.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a fault wants to happen in.

    environment: of every service
    faults: of every service, as tests/support/fault_injection.py reads them
    redis: lines of redis.conf
    node_timeout_ms: how long a node may be silent before the others call it failing
    aggregators: how many there are at the beginning
    speed: of the pipeline clock
    database: a kind of warehouse; empty takes PostgreSQL where there is one, else SQLite
    takes_hours: whether many hours pass until it has happened, or a day's readings: in real time
        that would be long
    packed: whether producers send many readings in an entry, instead of an entry for each
    """

    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    faults: str = ""
    redis: Mapping[str, str] = field(default_factory=dict[str, str])
    node_timeout_ms: int = NODE_TIMEOUT_MS
    aggregators: int = len(AGGREGATORS)
    speed: float = SPEED
    database: str = ""
    takes_hours: bool = False
    packed: bool = False


def until_over(over_at: float) -> bool:
    """Whether a fault that is over at that time (monotonic) still lasts."""
    return time.monotonic() < over_at


class Stage:
    """Enter it and everything runs, loaded, until left; then nothing of it is left."""

    def __init__(
        self,
        setting: Setting,
        *,
        rate: int,
        seed: str = "",
        lanes: int = 1,
        logs: Path | None = None,
        begin_ms: int = EXERCISE_START_MS,
        environment: Mapping[str, str] = HASTE,
        lasts: Callable[[float], bool] = until_over,
    ) -> None:
        """Make one, where nothing runs yet.

        seed: of the moments at which faults happen
        logs: a folder to keep the services' logs in
        begin_ms: pipeline time of the first readings
        environment: of every service; the setting's comes on top
        lasts: whether a fault that should be over at a time (monotonic) still lasts
        """
        self.setting = setting
        self.speed = setting.speed
        self.random = Random(seed)
        self._begin_ms = begin_ms
        self._environment = environment
        self._lasts = lasts
        self._lanes = lanes
        self._logs = logs
        # Two at least, so that they are numbered.
        self.devices = max(2, ceil(rate / (len(PRODUCERS) * setting.speed * 1000 / PERIOD_MS)))
        self.foreign: dict[int, Result] = {}
        #: Readings that producers reported at their end, by name.
        self.ledgers: dict[str, Ledger] = {}
        #: Producers whose readings the generator alone does not tell: they came later, or the clock
        #: leapt.
        self.unpredictable: set[str] = set()
        #: Pipeline time at which the last producer got SIGTERM.
        self.retired_ms = begin_ms
        #: Monotonic times of the first reading, and of that.
        self.began_at = self.retired_at = 0.0
        #: When the damage was done: monotonic, and by the pipeline clock.
        self.hurt_at = 0.0
        self.hurt_ms = begin_ms
        self._resources = ExitStack()
        self._flow: list[tuple[float, int]] = []
        self._over = Event()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._resources.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._logs:
            self._logs.mkdir(parents=True, exist_ok=True)
            for name in self.services.names:
                shutil.copy(self.services.log(name), self._logs)
        self._resources.close()

    def _start(self) -> None:
        enter = self._resources.enter_context
        self.nodes = enter(
            EmbeddedCluster(
                replicas=1,
                persistence=True,
                node_timeout_ms=self.setting.node_timeout_ms,
                options={"enable-debug-command": "local", **self.setting.redis},
            )
        )
        self.redis: Cluster = connect(self.nodes.url, keyspace=Keyspace())
        self._resources.callback(self.redis.close)
        self.clock = PipelineClock(self.redis)
        guard = enter(ProcessGroup("hourglass-drill-"))
        self.postgres = self._postgres()
        url = (
            self.postgres.new_database()
            if self.postgres
            else f"sqlite:///{guard.directory}/warehouse.db"
        )
        self.warehouse_url = url
        self.warehouse = enter(Warehouse(url))
        self.warehouse.create()
        self.services = ObservedProcesses(
            guard,
            {
                **ENVIRONMENT,
                **self._environment,
                "HOURGLASS_REDIS_URL": self.nodes.url,
                "HOURGLASS_WAREHOUSE_URL": url,
                "HOURGLASS_DEVICES": str(self.devices),
                "HOURGLASS_LANES": str(self._lanes),
                **({"HOURGLASS_PACKED": "on"} if self.setting.packed else {}),
                **self.setting.environment,
            },
        )
        self._resources.callback(self.services.stop)
        # Until all of them are up the clock stands just before the first second.
        self.set_clock(self._begin_ms, real_ms=1 << 52)
        aggregators = [f"aggregator-{n + 1}" for n in range(self.setting.aggregators)]
        names = [*PRODUCERS, *aggregators, *CONSUMERS]
        for name in names:
            self.start(name)
        for name in names:
            self.await_ready(name)
        self.set_clock(self._begin_ms, real_ms=self.redis.clock()[1] + HEAD_START_MS)
        self.began_at = time.monotonic() + HEAD_START_MS / 1000
        Thread(target=self._watch, daemon=True).start()

    def _postgres(self) -> Postgres | None:
        if self.setting.database == "sqlite":
            return None
        try:
            find_binaries()
        except NoPostgres:
            if self.setting.database:
                raise
            return None
        server = Postgres(self._resources.enter_context(ProcessGroup("hourglass-drill-postgres-")))
        self._resources.callback(server.stop)
        return server

    def _watch(self) -> None:
        """Note when which hour came into the warehouse."""
        last = -1
        while not self._over.wait(min(0.5, LOOK_EVERY_S / self.speed)):
            try:
                hour = self.warehouse.last_hour() or -1
            except WarehouseUnreachable:
                continue
            if hour > last:
                last = hour
                self._flow.append((time.monotonic(), hour))

    def start(self, name: str, *options: str, faults: str = "", **environment: str) -> str:
        """A service: the part of `name` before the hyphen says which."""
        module = MODULES[name.partition("-")[0]]
        faults = faults or self.setting.faults
        self.services.start(name, module, *options, faults=faults, **environment)
        if self._flow:
            self.unpredictable.add(name)
        return name

    def await_ready(self, name: str) -> None:
        def ready() -> bool:
            if not self.services.running(name):
                raise DrillFailed(f"{name} ended: {self.last_words(name)}")
            return self.services.ready(name)

        wait(ready, f"{name} is ready")

    def last_words(self, name: str) -> str:
        lines = self.services.said(name).strip().splitlines()
        return lines[-1] if lines else "it logged nothing"

    def set_clock(self, at_ms: int, *, real_ms: int) -> None:
        """The clock shows `at_ms` at `real_ms` of Redis' time, and runs on."""
        self.clock.set(
            ClockSpec(
                mode=Mode.SIMULATED,
                origin_ms=at_ms,
                origin_real_ms=real_ms,
                speed=self.speed,
            )
        )

    def set_speed(self, speed: float) -> None:
        """The clock goes on as fast as that from where it comes to before the services know: it
        never goes back for them."""
        instant = self.clock.refresh()
        ahead_ms = round(HEAD_START_MS * self.speed)
        self.speed = speed
        self.set_clock(instant.now_ms + ahead_ms, real_ms=instant.real_ms + HEAD_START_MS)

    def hurt(self) -> None:
        """The damage is done now; what was needed to do it has taken no part of the time that the
        averages take to flow again."""
        self.hurt_at, self.hurt_ms = time.monotonic(), self.now_ms()

    def hold(self, seconds: float = 0.0) -> None:
        """Leave things as bad as they are, for so long."""
        for _ in self.holding(seconds):
            time.sleep(0.05)

    def holding(self, seconds: float) -> Iterator[None]:
        """Again and again while a fault lasts that has to be done all the time."""
        over_at = time.monotonic() + seconds
        while self._lasts(over_at):
            yield

    def now_ms(self) -> int:
        """By the pipeline clock."""
        return self.clock.current().now_ms

    def today(self) -> Partition:
        """Today's partition; of several lanes the first."""
        day = self.redis.keyspace.containing(self.now_ms())
        lanes = lanes_of(self.redis, [day]) if self._lanes > 1 else []
        return next(iter(lanes), day)

    def masters(self) -> list[Node]:
        found = {
            node.port: node
            for node in (self.nodes.master_of(f"any:{number}") for number in range(60))
        }
        return list(found.values())

    def await_flow(self, after_ms: int) -> float:
        """When (monotonic) an hour that ended after that pipeline time was in the warehouse."""
        what = f"the average of {iso(after_ms - after_ms % HOUR_MS)} is in the warehouse"
        return wait(lambda: self.flowed(after_ms) or 0.0, what)

    def flowed(self, after_ms: int) -> float | None:
        """The same as far as it is known now."""
        hour = after_ms - after_ms % HOUR_MS
        return next((at for at, last in list(self._flow) if last >= hour), None)

    def states(self) -> list[StreamState]:
        """Every live partition as it is now. Raises Unreachable."""
        streams = [each.stream for each in candidates(self.redis, self.clock.refresh())]
        return read_streams(self.redis, streams, GROUP)

    def retire(self, *producers: str) -> None:
        """SIGTERM in the middle of an hour, once they have caught up: each sends what it has and
        says what became of it."""
        for name in producers:
            wait(
                lambda name=name: self._backlog(name) < self.speed * self.devices,
                f"{name} catches up (a machine that is too slow wants a lower --rate)",
            )
        wait(lambda: HOUR_MS // 4 < self.now_ms() % HOUR_MS < HOUR_MS // 2, "the hour is half over")
        self.retired_ms, self.retired_at = self.now_ms(), time.monotonic()
        for name in producers:
            self.services.signal(name, signal.SIGTERM)
        for name in producers:
            wait(lambda name=name: not self.services.running(name), f"{name} ends")
            lines = self.services.output(name).read_text().strip().splitlines()
            if not lines:
                raise DrillFailed(f"{name} did not report what became of its readings")
            self.ledgers[name] = Ledger(**json.loads(lines[-1]))

    def _backlog(self, producer: str) -> float:
        """Readings that wait in a producer; a second of its load is `speed * devices`."""
        waiting = self.services.metric(producer, "hourglass_readings_buffered")
        return inf if waiting is None else waiting

    def finish(self) -> None:
        """Stop the load, and wait until all that was taken is counted, published and loaded."""
        self.retire(
            *(
                name
                for name in self.services.names
                if name.startswith("producer") and self.services.running(name)
            )
        )
        wait(self._is_out, "the last hour is sealed and published")
        wait(lambda: not self._unfinished(), "everything is counted and loaded")

    def _is_out(self) -> bool:
        """Whether all is done for the hour in which the load ended. If what it has came late, on a
        machine that is too slow for the load, it has no average."""
        start_ms = self.retired_ms - self.retired_ms % HOUR_MS
        partitions = [
            each
            for each in candidates(self.redis, self.clock.current())
            if each.day == self.redis.keyspace.containing(start_ms)
        ]
        records = [
            record
            for partition in partitions
            for record in decode_hours(partition, self.redis.call("HGETALL", partition.hours))
            if record.start_ms == start_ms
        ]
        counted = sum(record.count for record in records)
        published = (published_through_ms(self.redis) or 0) >= start_ms
        return (
            bool(records)
            and all(record.sealed for record in records)
            and (counted == 0 or published)
        )

    def _unfinished(self) -> list[StreamState]:
        """Streams with entries that their group has not worked off."""
        averages = self.redis.keyspace.averages
        states = [*self.states(), *read_streams(self.redis, [averages], AVERAGES_GROUP)]
        return [state for state in states if state.pending or state.lag]
