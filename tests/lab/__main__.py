"""`python -m tests.lab`, from the root of the repository; `make drill`, `make alert-drill` and
`make bench` call it."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import typer
from rich.console import Console

from hourglass.errors import ConfigurationError
from hourglass.service.cli import add_command, application, invoke
from tests.lab import alert_drill
from tests.lab.bench import report, suite
from tests.lab.bench.figures import Curve, Finding, NotMeasured
from tests.lab.bench.plots import draw
from tests.lab.bench.rig import QUICK, Rig, Scale
from tests.lab.drill.catalogue import chosen
from tests.lab.drill.run import drill
from tests.lab.settings import AlertDrillSettings, BenchSettings, DrillSettings


def run_drill(settings: DrillSettings) -> None:
    """Break things on purpose, on a cluster of its own, and see what becomes of every reading."""
    faults = chosen(settings.names or [])
    if settings.list_:
        for fault in faults:
            print(f"{fault.name:20} {fault.what}")
        return
    sys.exit(0 if drill(faults, settings, Console(highlight=False)) else 1)


def run_alert_drill(settings: AlertDrillSettings) -> None:
    """See which alert each fault of the drill fires first, and when; needs prometheus."""
    faults = chosen(settings.names or [])
    known = alert_drill.run(faults, at_once=settings.at_once, document=Path(settings.write))
    sys.exit(0 if known else 1)


def run_bench(settings: BenchSettings) -> None:
    """Measure the pipeline beside its limits, everything in one run."""
    names = suite.chosen(settings.only)
    if settings.write and settings.only:
        raise ConfigurationError("--write takes the whole run: leave --only out")
    tell = partial(print, file=sys.stderr if settings.json else sys.stdout, flush=True)
    scale = QUICK if settings.quick else Scale(repeats=settings.repeats)
    machine = report.machine()
    for name, value in machine.items():
        tell(f"{name}: {value}")
    findings: list[Finding] = []
    rig = Rig(scale=scale, tell=tell, time_series=settings.time_series)
    for finding in suite.measure(names, rig):
        findings.append(finding)
        for line in report.lines(finding):
            tell(line)
    if settings.json:
        print(json.dumps(report.as_data(machine, findings)))
    if settings.write:
        page = Path(settings.write)
        for finding in findings:
            if isinstance(finding, Curve):
                draw(finding, page.parent / "images")
        page.write_text(report.page(machine, findings, "images"), encoding="utf-8")
    sys.exit(any(isinstance(finding, NotMeasured) and finding.wrong for finding in findings))


def commands() -> typer.Typer:
    app = application("Prove and measure the product.", commands=True)
    add_command(app, DrillSettings, run_drill, name="drill")
    add_command(app, AlertDrillSettings, run_alert_drill, name="alert-drill")
    add_command(app, BenchSettings, run_bench, name="bench")
    return app


if __name__ == "__main__":
    invoke(commands(), "python -m tests.lab")
