"""The operator's command."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any, NoReturn

import typer
from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from averages_consumer.warehouse import Warehouse, WarehouseUnreachable
from hourglass.cluster.client import Cluster
from hourglass.cluster.published import published_through_ms, rewind
from hourglass.errors import Conflict, CorruptKey, Unreachable
from hourglass.model.clock import ClockSpec, Mode, PipelineClock
from hourglass.model.keys import iso, parse_time
from hourglass.service.cli import VersionOption, add_command, invoke
from hourglass.service.cli import application as empty_application
from hourglass.service.config import RedisSettings, secret
from hourglass.service.signals import interruptible
from hourglassctl.audit.collect import audit, audit_lines
from hourglassctl.averages import export_averages, show_averages
from hourglassctl.backfill import backfill_averages
from hourglassctl.config import (
    AuditSettings,
    BackfillSettings,
    DemoSettings,
    ExportSettings,
    QuarantineSettings,
    RedisClusterSettings,
    RedriveSettings,
    ReplaySettings,
    ResetSettings,
    RunClockSettings,
    ShowAveragesSettings,
    StatusSettings,
    WallClockSettings,
    reached,
)
from hourglassctl.demo.run import demo
from hourglassctl.file_replay import run_replay
from hourglassctl.local.embedded import EmbeddedCluster
from hourglassctl.quarantine import list_quarantine, redrive_quarantine
from hourglassctl.render import as_document, as_screen, clock_line, console
from hourglassctl.replay import reset
from hourglassctl.status import gather

#: Interval between two updates of `status --watch`.
WATCH_S = 2.0


def run_redis(settings: RedisClusterSettings) -> None:
    """Run an empty Redis Cluster on this machine until Ctrl-C; nothing of it is kept."""
    with EmbeddedCluster(masters=settings.masters) as cluster:
        print(f"export HOURGLASS_REDIS_URL={cluster.url}", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.pause()


def run_demo(settings: DemoSettings) -> None:
    """Run the whole pipeline on this machine with a simulated clock, and audit it."""
    good = demo(settings.days, lanes=settings.lanes, keep=settings.keep, console=console())
    sys.exit(0 if good else 1)


def run_status(settings: StatusSettings) -> None:
    """Show services, partitions, hours and current problems; exit 1 if not healthy."""
    with ExitStack() as resources:
        warehouse = _warehouse_or_none(resources, settings)
        cluster, _ = resources.enter_context(reached(settings))
        clock = PipelineClock(cluster)
        if settings.watch:
            watch(cluster, clock, warehouse, settings)
        status = gather(cluster, clock, period_s=settings.period_s, warehouse=warehouse)
    if settings.json:
        print(json.dumps(as_document(status, settings.period_s)))
    else:
        console().print(as_screen(status, settings.period_s))
    sys.exit(0 if status.healthy else 1)


def watch(
    cluster: Cluster, clock: PipelineClock, warehouse: Warehouse | None, settings: StatusSettings
) -> NoReturn:
    """Update the status every WATCH_S, also while Redis or the warehouse is unreachable, until
    Ctrl-C."""

    def read() -> tuple[Mapping[str, Any], RenderableType]:
        try:
            status = gather(cluster, clock, period_s=settings.period_s, warehouse=warehouse)
        except (Unreachable, CorruptKey, WarehouseUnreachable) as error:
            return {"healthy": False, "error": str(error)}, Text(f"NOT HEALTHY: {error}")
        return as_document(status, settings.period_s), as_screen(status, settings.period_s)

    with interruptible() as check, ExitStack() as resources:
        out = console()
        live = None
        if out.is_terminal and not settings.json:
            live = resources.enter_context(Live(console=out, auto_refresh=False, screen=True))
        while True:
            check()
            document, screen = read()
            if live:
                live.update(screen, refresh=True)
            elif settings.json:
                print(json.dumps(document), flush=True)
            else:
                out.print(screen)
            time.sleep(WATCH_S)


def run_audit(settings: AuditSettings) -> None:
    """Recompute the hours from the raw readings and compare them with hour records, averages and
    the warehouse; exit 1 on any difference."""
    with ExitStack() as resources:
        warehouse = _warehouse_or_none(resources, settings)
        cluster, instant = resources.enter_context(reached(settings))
        found = audit(cluster, instant, warehouse)
    if settings.json:
        print(json.dumps(found.as_data()))
    else:
        for line in audit_lines(found):
            print(line)
    sys.exit(0 if found.clean else 1)


def _warehouse_or_none(
    resources: ExitStack, settings: StatusSettings | AuditSettings
) -> Warehouse | None:
    url = secret(settings.warehouse_url, settings.warehouse_url_file, "--warehouse-url-file")
    if not url:
        return None
    warehouse = resources.enter_context(Warehouse(url))
    warehouse.expect()
    return warehouse


def run_reset(settings: ResetSettings) -> None:
    """Delete every key of the pipeline: readings, records, averages, clock."""
    with closing(settings.connect()) as cluster:
        if not settings.yes:
            if not sys.stdin.isatty():
                raise Conflict(
                    f"reset deletes every reading and average of {settings.pipeline}: "
                    "give --yes to confirm"
                )
            typer.confirm(
                f"Delete every reading, record and average of {settings.pipeline}?", abort=True
            )
        keys = reset(cluster)
    print(f"deleted {len(keys)} keys")


def show_clock(settings: RedisSettings) -> None:
    """Show the time and the mode of the pipeline clock."""
    with reached(settings) as (_, instant):
        print(clock_line(instant))


def wall_clock(settings: WallClockSettings) -> None:
    """Set the pipeline clock to wall time, the time of Redis."""
    with closing(settings.connect()) as cluster:
        _set_clock(cluster, ClockSpec(), rewinds=settings.rewind)


def running_clock(settings: RunClockSettings) -> None:
    """Set the pipeline clock to simulated time, with a start and a speed."""
    start_ms = parse_time(settings.from_, option="--from") if settings.from_ else None
    with closing(settings.connect()) as cluster:
        if start_ms is None:
            start_ms = PipelineClock(cluster).refresh().now_ms
        _, real_ms = cluster.clock()
        spec = ClockSpec(
            mode=Mode.SIMULATED, origin_ms=start_ms, origin_real_ms=real_ms, speed=settings.speed
        )
        _set_clock(cluster, spec, rewinds=settings.rewind)


def _set_clock(cluster: Cluster, spec: ClockSpec, *, rewinds: bool) -> None:
    """Set the clock, also if its key is corrupt. Raises Conflict if the new time is before
    published hours and `rewinds` is false."""
    published_through = published_through_ms(cluster)
    _, real_ms = cluster.clock()
    if published_through is not None and spec.now(real_ms) < published_through and not rewinds:
        raise Conflict(
            f"hours up to {iso(published_through)} are already published, and no earlier hour "
            "would be: choose a later time, unpublish them with --rewind, or run hourglass reset "
            "first"
        )
    clock = PipelineClock(cluster)
    clock.set(spec)
    print(clock_line(clock.current()))
    if rewinds:
        print(f"{rewind(cluster, clock.current())} averages unpublished")


def application() -> typer.Typer:
    """Every command, with its options."""
    app = empty_application(commands=True)

    @app.callback()
    def program(*, version: VersionOption = False) -> None:  # pyright: ignore[reportUnusedFunction]
        """The operator's command."""

    clock = empty_application("Show or set the pipeline clock.", commands=True)
    averages = empty_application("The hourly averages.", commands=True)
    quarantine = empty_application("Readings that could not be used.", commands=True)
    add_command(app, RedisClusterSettings, run_redis, name="redis")
    add_command(app, DemoSettings, run_demo, name="demo")
    add_command(app, StatusSettings, run_status, name="status")
    add_command(app, AuditSettings, run_audit, name="audit")
    add_command(app, ResetSettings, run_reset, name="reset")
    add_command(app, ReplaySettings, run_replay, name="replay")
    add_command(clock, RedisSettings, show_clock, name="show")
    add_command(clock, WallClockSettings, wall_clock, name="wall")
    add_command(clock, RunClockSettings, running_clock, name="run")
    add_command(averages, ShowAveragesSettings, show_averages, name="show")
    add_command(averages, ExportSettings, export_averages, name="export")
    add_command(averages, BackfillSettings, backfill_averages, name="backfill")
    add_command(quarantine, QuarantineSettings, list_quarantine, name="list")
    add_command(quarantine, RedriveSettings, redrive_quarantine, name="redrive")
    app.add_typer(averages, name="averages")
    app.add_typer(clock, name="clock")
    app.add_typer(quarantine, name="quarantine")
    return app


def main() -> None:
    invoke(application(), "hourglass")


if __name__ == "__main__":
    main()
