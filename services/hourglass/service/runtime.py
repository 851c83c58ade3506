"""The life cycle of a service: named workers and an orderly stop.

On SIGTERM or SIGINT the service becomes unready and sets `stop`. The workers finish their current
batch and return; then the HTTP port closes and telemetry is flushed. If a worker raises, the whole
service ends with exit status 1, so that it is restarted and does not run with a part of its
workers.
"""

from __future__ import annotations

import gc
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from types import FrameType

from prometheus_client import CollectorRegistry

from hourglass.cluster.client import Cluster
from hourglass.cluster.client_metrics import TRAFFIC_METRICS, ClientMetrics
from hourglass.errors import CorruptKey, HourglassError, Unforeseen, Unreachable
from hourglass.monitoring.server_settings import (
    EVICTION_POSSIBLE,
    Finding,
    ServerSettingsWatch,
    clock_findings,
)
from hourglass.monitoring.shards import SHARD_METRICS, ShardGauges
from hourglass.service.config import ServiceSettings
from hourglass.service.health import BUILD, FAILING, FailingGauge, show_build
from hourglass.service.logs import set_up_logging
from hourglass.service.probes import Probes

log = logging.getLogger(__name__)

#: Number of allocations after which Python searches for garbage cycles: far more than one batch
#: makes. With the default it searches about three times per batch, a third of the run time.
_OBJECTS_BETWEEN_COLLECTIONS = 100_000
_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})

#: Time for workers to finish their batch; the process exits within two seconds of SIGTERM.
DRAIN_S = 1.5
#: A worker without a heartbeat for this long is stuck. It is far above every time-out of a worker.
STUCK_S = 60.0
#: The longest pause before a failed step is tried again.
RETRY_S = 1.0
SHARDS_S, SERVER_SETTINGS_S = 2.0, 10.0
#: A service that waits for Redis at start-up for longer than this logs a line.
REPORTED_AFTER_S = 5.0

#: The metrics that every service exports.
COMMON = (FAILING, *SHARD_METRICS, EVICTION_POSSIBLE, *TRAFFIC_METRICS, BUILD)


class Service:
    """One process of one service. Add workers, then call `run`."""

    def __init__(self, kind: str, settings: ServiceSettings) -> None:
        self.kind = kind
        self.name = settings.process_name
        self.registry = CollectorRegistry()
        self.stop = threading.Event()
        self.resources = ExitStack()
        self._settings = settings
        self._workers: list[threading.Thread] = []
        self._beats: dict[str, float] = {}
        self._failures: dict[str, str] = {"start": "starting"}
        self._notes: dict[str, str] = {}
        self._failure: BaseException | None = None
        self._heeds_signals = False
        self._port: int | None = None
        FailingGauge(self.registry, self._beats, self._failures)
        show_build(self.registry, kind, settings.pipeline)
        self._traffic = ClientMetrics(self.registry)
        self._shards = ShardGauges(self.registry)
        self._server_settings = ServerSettingsWatch(self.registry)
        set_up_logging(settings.log_format, settings.log_level, service=kind, name=self.name)

    def connect(self) -> Cluster:
        """Connect to the cluster; wait for it up to `connect_within_s`.

        Exits if the service is stopped meanwhile. Raises ConfigurationError; Unreachable after the
        wait; Unsuitable, also if Redis may evict readings and the settings do not allow it.
        """
        self._heed_signals()
        began, logged = time.monotonic(), False
        deadline = began + self._settings.connect_within_s
        while True:
            try:
                cluster = self._settings.connect(self._traffic)
                self.resources.callback(cluster.close)
                cluster.clock()  # it answers, and its slots are served
                self._server_settings.poll(
                    cluster, refuse_eviction=not self._settings.allow_eviction
                )
                self.every(SHARDS_S, "shards", partial(self._look_at_shards, cluster))
                self.every(
                    SERVER_SETTINGS_S,
                    "redis-settings",
                    partial(self._look_at_server_settings, cluster),
                )
                return cluster
            except Unreachable as error:
                self._failures["start"] = f"starting: {error}"
                if not logged and time.monotonic() - began >= REPORTED_AFTER_S:
                    logged = True
                    log.warning("waiting for Redis: %s", error, extra={"worker": "start"})
                if self.stop.wait(0.2):
                    sys.exit(0)
                if time.monotonic() >= deadline:
                    raise

    def _look_at_shards(self, cluster: Cluster) -> None:
        self._shards.poll(cluster, lambda: self.beat("shards"))

    def _look_at_server_settings(self, cluster: Cluster) -> None:
        self._server_settings.poll(cluster, lambda: self.beat("redis-settings"))

    def server_findings(self) -> Sequence[Finding]:
        """The settings and clocks of Redis that endanger data, as of the last check."""
        return [*clock_findings(self._shards.doubts), *self._server_settings.findings]

    def worker(self, name: str, work: Callable[[], None]) -> threading.Thread:
        """Start `work` in a separate thread. `work` must return soon after `stop` is set."""

        def guarded() -> None:
            try:
                work()
            except HourglassError as error:
                self._failure = error
                self.stop.set()
            except BaseException as error:
                log.exception("worker %s failed", name)
                self._failure = error
                self.stop.set()

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self._workers = [each for each in self._workers if each.is_alive()]
        thread.start()
        self._workers.append(thread)
        return thread

    def every(
        self, seconds: float | Callable[[], float], name: str, step: Callable[[], object]
    ) -> None:
        """Start a worker that calls `step` every `seconds`. A failed step is tried again within
        RETRY_S, so that the service is ready soon after the cause is gone."""

        def loop() -> None:
            while True:
                self.beat(name)
                try:
                    step()
                    self.mark_recovered(name)
                except (Unreachable, CorruptKey) as error:
                    self.mark_failing(name, error)
                except HourglassError:
                    raise
                except Exception as error:
                    log.debug("%s", name, exc_info=True)
                    self.mark_failing(name, Unforeseen.of(error))
                rest_s = seconds() if callable(seconds) else seconds
                rest_s = min(rest_s, RETRY_S) if name in self._failures else rest_s
                self.beat(name, rest_s=rest_s)
                if self.stop.wait(rest_s):
                    return

        self.worker(name, loop)

    def beat(self, worker: str, *, rest_s: float = 0.0) -> None:
        """Record a heartbeat of `worker`. The service stops being live if the next one does not
        come within `rest_s` + STUCK_S, unless Redis is unreachable.

        rest_s: pause that the worker is about to make
        """
        self._beats[worker] = time.monotonic() + rest_s

    def retire(self, worker: str) -> None:
        """Retire `worker`: expect no heartbeat from it, and clear its failure."""
        self._beats.pop(worker, None)
        self._failures.pop(worker, None)

    def mark_failing(self, worker: str, what: str | HourglassError) -> bool:
        """Mark `worker` as failing; whether it was not failing before.

        Logs the first failure, and each corrupt key with another message than the last failure.
        """
        # A Redis client that fails to connect leaves garbage cycles with megabytes of buffers.
        gc.collect(0)
        before = self._failures.get(worker)
        self._failures[worker] = str(what)
        if before is None or (isinstance(what, CorruptKey) and before != str(what)):
            cause = what.__cause__ if isinstance(what, Unforeseen) else None
            log.warning("%s: %s", worker, what, extra={"worker": worker}, exc_info=cause)
        return before is None

    def mark_recovered(self, worker: str) -> None:
        if self._failures.pop(worker, None) is not None and worker != "start":
            log.info("%s: recovered", worker, extra={"worker": worker})

    def note(self, worker: str, what: str) -> None:
        """Set the status note of `worker`, which /readyz shows whether ready or not."""
        self._notes[worker] = what

    def unready_reasons(self) -> Sequence[str]:
        return [f"{worker}: {what}" for worker, what in sorted(self._failures.copy().items())]

    def dead_reasons(self) -> Sequence[str]:
        # While Redis is unreachable, workers wait for it, and for a lock during topology refreshes,
        # for longer than any limit; a restart would not help.
        if self._shards.one_is_silent:
            return []
        now = time.monotonic()
        return [
            f"{worker} has sent no heartbeat for {now - beat:.0f} s"
            for worker, beat in self._beats.copy().items()
            if now - beat > STUCK_S
        ]

    def serve_probes(self) -> int:
        """Open the HTTP port; return its number. Call it before any slow step of the start-up, so
        that the service is live meanwhile and /readyz shows what it waits for."""
        probes = Probes(
            self._settings.http_host,
            self._settings.http_port,
            self.registry,
            live=self.dead_reasons,
            ready=self.unready_reasons,
            notes=lambda: [note for _, note in sorted(self._notes.copy().items())],
        )
        self.resources.callback(probes.close)
        self._port = probes.port
        return probes.port

    def run(self, *, drained: Callable[[], None] = lambda: None) -> int:
        """Wait until a signal or a worker sets `stop`; drain; return the exit status.

        drained: called after the workers end, while /metrics still answers
        """
        self._heed_signals()
        collect_seldom()
        self.mark_recovered("start")
        if self._port is not None:
            log.info("%s %s listens on port %d", self.kind, self.name, self._port)
        self.stop.wait()
        self._failures["stop"] = "stopping"
        deadline = time.monotonic() + DRAIN_S
        for thread in self._workers:
            thread.join(max(0.0, deadline - time.monotonic()))
        for thread in self._workers:
            if thread.is_alive():
                log.warning(
                    "worker %s did not finish in time: its batch is processed again", thread.name
                )
        drained()
        self.resources.close()
        if isinstance(self._failure, HourglassError):
            raise self._failure
        return 0 if self._failure is None else 1

    def _heed_signals(self) -> None:
        if self._heeds_signals:
            return
        self._heeds_signals = True
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        self.resources.enter_context(reader)
        self.resources.enter_context(writer)
        signal.set_wakeup_fd(writer.fileno())
        self.resources.callback(signal.set_wakeup_fd, -1)
        for number in _SIGNALS:
            signal.signal(number, _leave_to_the_thread)
        threading.Thread(target=self._await_signal, args=(reader,), daemon=True).start()

    def _await_signal(self, reader: socket.socket) -> None:
        # In a thread, not in the signal handler: a handler may interrupt the main thread while it
        # holds a lock that setting the event or logging needs.
        number = next((byte for byte in reader.recv(1)), None)
        if number is None:
            return
        self._failures["stop"] = "stopping"
        log.info("%s: stopping", signal.Signals(number).name)
        self.stop.set()


def _leave_to_the_thread(_number: int, _frame: FrameType | None) -> None:
    """Does nothing. Python writes to the wake-up descriptor only if a handler is set."""


def collect_seldom() -> None:
    """Make Python search for garbage cycles seldom: batches are freed by reference counting. Call
    it once per process."""
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
