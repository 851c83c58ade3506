"""Which alert tells of which fault of the drill, and when.

Each fault happens to a pipeline of its own, which a real Prometheus scrapes, with the rules as they
are shipped. The services wait for as long as they do by default, and the clock goes as in life, a
minute before an hour's end; only the hour before passes in a minute. The fault is held until an
alert has fired, or none has for long.

Each fault is a process of its own, several at a time, and the table of the document gets its line
as soon as it is known.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from multiprocessing import active_children, get_context
from pathlib import Path
from threading import Event, Thread

from hourglass.errors import ConfigurationError, HourglassError
from hourglass.model.keys import HOUR_MS
from hourglass.service.signals import interruptible
from hourglassctl.replay import EXERCISE_START_MS
from tests.lab.drill.catalogue import FAULTS
from tests.lab.drill.fault import Fault
from tests.lab.drill.stage import HEAD_START_MS, DrillFailed, Stage, wait
from tests.support.prometheus import Prometheus, binary, prometheus
from tools.alert_table import NoPlace, Observation, line, rewritten

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "hourglass.rules.yaml"

#: Of a hundred devices.
READINGS_A_SECOND = 100
#: A few hours into a day, so that some of its readings can be wrong by hours.
BEGIN_MS = EXERCISE_START_MS + 3 * HOUR_MS - 120_000
FAULT_MS = EXERCISE_START_MS + 4 * HOUR_MS - 60_000
#: How fast the time passes before that.
WARM_UP_SPEED = 60.0
#: But for these last moments.
SETTLED_MS = 20_000
#: Between two scrapes, and between two evaluations; the times are known to within this.
INTERVAL_S = 5
#: An alert that fires at once leaves the average of the hour this long to come.
AVERAGE_WITHIN_S = 120.0
#: Nobody waits longer than this unless an alert is pending,
NONE_WITHIN_S = 600.0
#: nor longer than this if one is.
AT_MOST_S = 1500.0


class Known(Exception):
    """There is no more to see: the fault need not be put right."""


class Watch:
    """Looks at a fault while it lasts."""

    def __init__(self, fault: str, asked: Prometheus) -> None:
        self._fault = fault
        self._asked = asked
        self._next_look = 0.0

    def begin(self, stage: Stage) -> None:
        """Just before the fault."""
        self._stage = stage
        self._began, self._began_s = time.time(), time.monotonic()
        self._began_ms = stage.now_ms()

    def lasts(self, _over_at: float) -> bool:
        """While there is more to see. Raises Known."""
        if self._stage.speed != 1.0:
            slow_down_after(self._stage)
        if time.monotonic() >= self._next_look:
            if self._enough(self.seen()):
                raise Known
            self._next_look = time.monotonic() + 1.0
        return True

    def seen(self) -> Observation:
        """So far."""
        firing = 'ALERTS{alertstate="firing"}'
        fired = [
            (at - self._began, labels["alertname"])
            for labels, at in self._asked.firsts(firing, self._began, step_s=INTERVAL_S)
        ]
        now_s = time.monotonic()
        alert_s = min((at for at, _ in fired), default=now_s - self._began_s)
        average = self._stage.flowed(self._began_ms)
        return Observation(
            fault=self._fault,
            alerts=sorted({name for at, name in fired if at == alert_s}),
            alert_s=alert_s,
            average_s=average and average - self._began_s,
        )

    def _enough(self, seen: Observation) -> bool:
        lasted_s = time.monotonic() - self._began_s
        if seen.alerts:
            return seen.average_s is not None or lasted_s > AVERAGE_WITHIN_S
        patience_s = AT_MOST_S if self._asked.query("ALERTS") else NONE_WITHIN_S
        return lasted_s > patience_s


def observe(name: str) -> Observation:
    """Raises HourglassError if the alerts of this fault cannot be observed."""
    fault = FAULTS[name]
    in_haste = fault.setting.takes_hours
    setting = fault.setting if in_haste else replace(fault.setting, speed=WARM_UP_SPEED)
    with ExitStack() as resources:
        asked = resources.enter_context(prometheus(RULES, interval_s=INTERVAL_S))
        watch = Watch(name, asked)
        stage = resources.enter_context(
            Stage(
                setting,
                rate=round(READINGS_A_SECOND * WARM_UP_SPEED),
                begin_ms=BEGIN_MS,
                environment={},
                lasts=watch.lasts,
            )
        )
        resources.enter_context(scraped(stage, asked))
        stage.await_flow(BEGIN_MS)
        if not in_haste:
            slow_down(stage)
        # What has begun in haste may be pending, and passes.
        before = asked.query('ALERTS{alertstate="firing"}' if in_haste else "ALERTS")
        if before:
            names = ", ".join(sorted({labels["alertname"] for labels, _ in before}))
            raise DrillFailed(f"there is an alert before there is a fault: {names}")
        watch.begin(stage)
        with suppress(Known):
            fault.act(stage)
            stage.hold()
        return watch.seen()


def slow_down(stage: Stage) -> None:
    """To the speed of life, in time for the fault."""
    soon_ms = FAULT_MS - SETTLED_MS - round(HEAD_START_MS * stage.speed)
    wait(lambda: stage.now_ms() >= soon_ms, "the hour is nearly over")
    stage.set_speed(1.0)
    wait(lambda: stage.now_ms() >= FAULT_MS, "the hour is over but for a minute")


def slow_down_after(stage: Stage) -> None:
    """To the speed of life, after what has happened in haste: in an hour that is whole but for what
    a change of speed leaves out, which is little from the warm-up's speed on."""
    stage.set_speed(WARM_UP_SPEED)
    began_ms = stage.now_ms() // HOUR_MS * HOUR_MS + HOUR_MS
    wait(
        lambda: stage.now_ms() >= began_ms + SETTLED_MS * WARM_UP_SPEED,
        "another hour has begun",
        within_s=2 * HOUR_MS / 1000 / WARM_UP_SPEED,
    )
    stage.set_speed(1.0)


@contextmanager
def scraped(stage: Stage, scraping: Prometheus) -> Generator[None]:
    """As in Kubernetes: whatever runs is scraped, and what is gone is not."""
    over = Event()

    def tell() -> None:
        while not over.wait(1.0):
            services = stage.services
            ports = {name: services.port(name) for name in services.names if services.running(name)}
            scraping.scrape(
                [(f"127.0.0.1:{port}", {"pod": name}) for name, port in ports.items() if port]
            )

    thread = Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def observe_all(faults: Sequence[Fault], at_once: int, document: Path) -> bool:
    """Write what each shows into the document; whether all could be observed."""
    lines: dict[str, str] = {}
    failed = False
    spawning = get_context("spawn")
    with ProcessPoolExecutor(at_once, mp_context=spawning, max_tasks_per_child=1) as pool:
        running = {pool.submit(observe, fault.name): fault for fault in faults}
        try:
            for done in as_completed(running):
                fault = running[done]
                try:
                    lines[fault.name] = line(done.result(), fault.what)
                except HourglassError as error:
                    print(f"{fault.name}: not observed: {error}", file=sys.stderr, flush=True)
                    failed = True
                    continue
                print(lines[fault.name], flush=True)
                text = rewritten(document.read_text("utf-8"), lines, FAULTS)
                document.write_text(text, encoding="utf-8")
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in active_children():
                worker.terminate()
            raise
    return not failed


def run(faults: Sequence[Fault], *, at_once: int, document: Path) -> bool:
    """Whether it is known of each. Raises ConfigurationError before anything runs."""
    if binary() is None:
        raise ConfigurationError("there is no prometheus on PATH: install it (Debian: prometheus)")
    try:
        rewritten(document.read_text("utf-8"), {}, FAULTS)
    except (OSError, NoPlace) as error:
        raise ConfigurationError(f"{document}: {error}: --write") from None
    with interruptible():
        return observe_all(faults, at_once, document)
