"""Every script that there is, and a day's work that takes each of them."""

from __future__ import annotations

from pathlib import Path

import hourglass
from hourglass.cluster.groups import reap
from hourglass.cluster.published import rewind
from hourglass.model.keys import GROUP
from hourglass.model.readings import Rules
from hourglass.monitoring.stream_stats import FIRST
from hourglassctl.quarantine import FIELDS, quarantined, redrive
from tests.support.pipeline import DAY, NEXT_DAY, Pipeline, at, reading
from tests.support.waiting import wait_until

SCRIPTS = {
    path.stem: path
    for path in Path(hourglass.__file__).parent.parent.glob("*/scripts/*.lua")
    if path.stem not in ("prelude", "partials", "calls")  # parts of others
}


def step_of_a_sealer(pipeline: Pipeline) -> bool:
    """Raises Unreachable."""
    pipeline.seal()
    return True


def use_every_script(pipeline: Pipeline) -> None:
    """Two days, from the first reading to the audit."""
    for day in (DAY, NEXT_DAY):
        pipeline.produce(reading(at(0, day=day)), reading(at(1, day=day), temp_f=999.0))
    pipeline.count(DAY, NEXT_DAY)
    pipeline.drive(NEXT_DAY.end_ms)
    # A test stands between a step and its script, for longer than a script lets clocks differ where
    # the machine is busy: the next step goes on.
    wait_until(lambda: step_of_a_sealer(pipeline))
    for item in list(quarantined(pipeline.cluster, pipeline.clock.current())):
        redrive(pipeline.cluster, item, Rules(max_milli_f=1_000_000), pipeline.clock.current())
    pipeline.cluster.run(FIRST, [DAY.stream], ["-", "+"])
    pipeline.cluster.run(FIELDS, [DAY.stream], [1000, "1-1"])
    reap(pipeline.cluster, DAY.stream, GROUP, idle_ms=0)
    assert rewind(pipeline.cluster, pipeline.clock.current()) == 0
    assert pipeline.audit().published == 2
