"""Running faults, one after the other, each on a stage of its own."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hourglass.errors import ConfigurationError, HourglassError
from hourglass.service.signals import interruptible
from tests.lab.drill.evidence import gather
from tests.lab.drill.fault import Fault
from tests.lab.drill.reckoning import reckon
from tests.lab.drill.report import (
    COLUMNS,
    Happened,
    Outcome,
    as_data,
    judge,
    markdown,
    rewritten,
    rows,
)
from tests.lab.drill.stage import DrillFailed, Stage
from tests.lab.settings import DrillSettings

#: Of load before a fault, so that there is something to damage.
BEFORE_S = 4.0
#: And after it, so that there is something to recover with.
AFTER_S = 2.0


def drill(faults: Sequence[Fault], settings: DrillSettings, console: Console) -> bool:
    """Run them, and show what came of it; whether every promise was kept.

    Raises ConfigurationError, before anything runs, if the document has no place for the table.
    """
    document = Path(settings.write) if settings.write else None
    if document and (not document.exists() or rewritten(document.read_text("utf-8"), "") is None):
        raise ConfigurationError(
            f"{document} has no place between drill:begin and drill:end: --write"
        )
    seed = settings.seed or random.randrange(1, 1 << 32)
    print(f"seed: {seed}", file=sys.stderr)
    outcomes: list[Outcome] = []
    with interruptible() as check:
        for fault in faults:
            check()
            if not settings.json:
                console.print(f"{fault.name}: {fault.what} …", soft_wrap=True)
            logs = Path(settings.logs) / fault.name if settings.logs else None
            outcomes.append(
                perform(
                    fault,
                    rate=settings.rate,
                    seed=seed,
                    lanes=settings.lanes,
                    packed=settings.packed,
                    logs=logs,
                )
            )
    if settings.json:
        print(json.dumps(as_data(outcomes)))
    else:
        console.print(table(outcomes))
    if document:
        made = rewritten(
            document.read_text("utf-8"), markdown(outcomes, {each.name: each for each in faults})
        )
        document.write_text(made or "", encoding="utf-8")
    return all(each.kept for each in outcomes)


def table(outcomes: Sequence[Outcome]) -> Table:
    shown = Table(box=None, padding=(0, 2, 0, 0))
    for name in COLUMNS:
        number = name in ("averages again", "lost", "twice", "late")
        shown.add_column(name, justify="right" if number else "left", overflow="fold")
    for cells in rows(outcomes):
        shown.add_row(*cells)
    return shown


def perform(
    fault: Fault,
    *,
    rate: int,
    seed: int,
    lanes: int = 1,
    packed: bool = False,
    logs: Path | None = None,
) -> Outcome:
    """One fault on a stage of its own, where readings are packed if it or the caller wants it. What
    keeps it from being judged breaks its promise."""
    happened = Happened(text="nothing")
    again_s = None
    setting = replace(fault.setting, packed=packed or fault.setting.packed)
    try:
        with Stage(
            setting, rate=rate, seed=f"{fault.name}:{seed}", lanes=lanes, logs=logs
        ) as stage:
            stage.await_flow(stage.now_ms())
            time.sleep(BEFORE_S)
            stage.hurt()
            happened = fault.act(stage)
            again_s = stage.await_flow(stage.hurt_ms) - stage.hurt_at
            time.sleep(AFTER_S)
            stage.finish()
            loaded_s = stage.retired_at - stage.began_at
            for name in stage.services.failed():
                raise DrillFailed(f"{name} ended: {stage.last_words(name)}")
            evidence, audit = gather(stage)
            reckoning = reckon(evidence)
    except HourglassError as error:
        return Outcome(
            fault=fault.name,
            happened=happened.text,
            again_s=again_s,
            lost=0,
            twice=0,
            late=0,
            readings=0,
            rate=0,
            broken=(str(error),),
        )
    return Outcome(
        fault=fault.name,
        happened=f"{happened.text}; packed readings" if setting.packed else happened.text,
        again_s=again_s,
        lost=reckoning.lost,
        twice=reckoning.twice,
        late=audit.late,
        readings=reckoning.expected,
        rate=round(reckoning.expected / loaded_s),
        broken=tuple(judge(fault.promise, happened, reckoning, audit)),
    )
