"""The demo: runs ten days in a minute, with the whole pipeline and an embedded Redis Cluster."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from rich.console import Console

from averages_consumer.warehouse import Warehouse
from hourglass.cluster.connect import connect
from hourglass.cluster.published import Result
from hourglass.model.clock import PipelineClock
from hourglass.model.devices import device_names
from hourglass.model.keys import HOUR_MS, Keyspace
from hourglass.monitoring.pipeline_status import collect
from hourglass.service.signals import interruptible
from hourglassctl.audit.collect import audit
from hourglassctl.audit.compare import Audit
from hourglassctl.demo.scenario import (
    AGGREGATORS,
    ENVIRONMENT,
    LISTENERS,
    PAGE,
    PRODUCERS,
    SEED,
    SERVICES,
    SPEED,
    DemoScenario,
    View,
)
from hourglassctl.local.bootstrap import free_ports
from hourglassctl.local.embedded import EmbeddedCluster
from hourglassctl.local.processes import Processes, ProcessGroup
from hourglassctl.replay import EXERCISE_START_MS
from producer.simulator import Sensors


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """The result of the demo. `lost` and `twice` are summed over the hours separately, so that a
    loss in one hour and a surplus in another do not cancel out."""

    hours_due: int
    hours_published: int
    exact_sums: int
    produced: int
    counted: int
    late: int
    lost: int
    twice: int
    differences: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return (
            self.hours_published == self.hours_due
            and self.produced == self.counted + self.late
            and not (self.lost or self.twice or self.differences)
        )

    @property
    def outcome(self) -> str:
        """The result in one line."""
        if self.good:
            return "every reading was counted once"
        if self.late and not (self.lost or self.twice or self.differences):
            return (
                "no reading is lost, but some arrived too late for their hours: the machine was "
                "too busy for this speed; run the demo again when it has less load"
            )
        return "THE RESULT IS WRONG: see the differences"

    def lines(self) -> Sequence[tuple[str, str]]:
        """The lines to show, as names and values."""
        return [
            ("hours due", f"{self.hours_due:,}"),
            ("hours published", f"{self.hours_published:,}"),
            ("averages exact to the thousandth", f"{self.exact_sums:,}"),
            ("readings produced", f"{self.produced:,}"),
            ("readings counted", f"{self.counted:,}"),
            ("readings late", f"{self.late:,}"),
            ("lost", f"{self.lost:,}"),
            ("counted twice", f"{self.twice:,}"),
            *(("difference", each) for each in self.differences),
        ]


def expected_hours(producers: Iterable[Sensors], start_ms: int, end_ms: int) -> dict[int, Result]:
    """The expected result of each hour from `start_ms` to `end_ms`, from the generators alone."""
    counts: dict[int, int] = {}
    sums: dict[int, int] = {}
    for sensors in producers:
        for _, ts_ms, milli_f in sensors.read(start_ms, end_ms):
            hour = ts_ms - ts_ms % HOUR_MS
            counts[hour] = counts.get(hour, 0) + 1
            sums[hour] = sums.get(hour, 0) + milli_f
    return {hour: Result(count, sums[hour]) for hour, count in counts.items()}


def judge(
    expected: Mapping[int, Result],
    published: Mapping[int, Result],
    late: Mapping[int, int],
    *,
    produced: int,
    audit: Audit,
) -> DemoResult:
    """Compare the warehouse's rows with the expected hours.

    late: number of late readings, by hour
    """
    lost = twice = exact = 0
    for hour, want in expected.items():
        have = published.get(hour, Result(0, 0))
        missing = want.count - have.count - late.get(hour, 0)
        lost += max(0, missing)
        twice += max(0, -missing)
        exact += have == want
    return DemoResult(
        hours_due=len(expected),
        hours_published=len(published),
        exact_sums=exact,
        produced=produced,
        counted=sum(each.count for each in published.values()),
        late=sum(late.values()),
        lost=lost,
        twice=twice,
        differences=tuple(f"{each.hour} {each.what}".strip() for each in audit.differences),
    )


def demo(days: int, *, lanes: int, keep: bool, console: Console) -> bool:
    """Run the demo; return whether every reading was counted once. It leaves no process and no
    file."""
    with interruptible() as check, ExitStack() as resources:
        server = resources.enter_context(EmbeddedCluster())
        cluster = connect(server.url, keyspace=Keyspace())
        resources.callback(cluster.close)
        guard = resources.enter_context(ProcessGroup("hourglass-demo-"))
        warehouse_url = f"sqlite:///{guard.directory}/warehouse.db"
        warehouse = resources.enter_context(Warehouse(warehouse_url))
        warehouse.create()
        processes = Processes(
            guard,
            {
                **ENVIRONMENT,
                "HOURGLASS_LANES": str(lanes),
                "HOURGLASS_REDIS_URL": server.url,
                "HOURGLASS_WAREHOUSE_URL": warehouse_url,
            },
        )
        resources.callback(processes.stop)
        free = free_ports(len(LISTENERS))
        ports = {name: port for name, (port, _) in zip(LISTENERS, free, strict=True)}
        console.print(
            f"{days} {'day' if days == 1 else 'days'}, {SPEED:,.0f} times real time: "
            f"a {server.version} Cluster of three shards, {len(PRODUCERS)} producers, "
            f"{len(AGGREGATORS)} aggregators, one averages consumer",
            highlight=False,
            soft_wrap=True,
        )
        page = f"http://127.0.0.1:{ports[PAGE]}/"
        console.print(f"web page: {page}", soft_wrap=True, highlight=False)
        with View(console, "live partitions") as view:
            scenario = DemoScenario(
                days=days,
                view=view,
                cluster=cluster,
                clock=PipelineClock(cluster),
                processes=processes,
                ports=ports,
                warehouse=warehouse,
                check=check,
            )
            scenario.run()
        result = result_of(scenario)
        for name, value in result.lines():
            console.print(f"{name:34}{value:>12}", highlight=False, soft_wrap=True)
        console.print(result.outcome, soft_wrap=True)
        if keep:
            console.print(f"HOURGLASS_REDIS_URL={server.url}", soft_wrap=True, highlight=False)
            console.print(f"HOURGLASS_WAREHOUSE_URL={warehouse_url}", soft_wrap=True)
            for name in SERVICES:
                if name != AGGREGATORS[0]:
                    console.print(f"{name}: http://127.0.0.1:{ports[name]}/metrics", soft_wrap=True)
            console.print(f"web page: {page}", soft_wrap=True, highlight=False)
            console.print("the pipeline keeps running, an hour per minute, until Ctrl-C")
            with View(console, "live partitions") as view:
                scenario.view = view
                scenario.go_on()
    return result.good


def result_of(run: DemoScenario) -> DemoResult:
    """Audit what the scenario left, and compare it with what its producers generate."""
    seen = collect(run.cluster, run.clock.refresh())
    found = audit(run.cluster, seen.instant, run.warehouse)
    rows = run.warehouse.rows(EXERCISE_START_MS, run.end_ms)
    published = {row.start_ms: Result(row.observations, row.sum_milli_f) for row in rows}
    producers = [Sensors(device_names(name, 1), seed=SEED, period_ms=1000) for name in PRODUCERS]
    tallies = [json.loads(run.processes.output(name).read_text()) for name in PRODUCERS]
    return judge(
        expected_hours(producers, EXERCISE_START_MS, run.end_ms),
        published,
        found.late_by_hour,
        produced=sum(tally["produced"] for tally in tallies),
        audit=found,
    )
