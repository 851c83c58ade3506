"""The producers: are the devices heard?"""

from __future__ import annotations

from charts.tools.dashboards.board import Board, Panel, a_second, one
from charts.tools.dashboards.common import redis_row

BOARD = Board(
    uid="hourglass-producer",
    title="Hourglass: producer",
    about="Devices, what they give, and what becomes of it on the way to Redis.",
    rows=(
        (
            "Devices",
            (
                one(
                    "Devices",
                    "sum(hourglass_producer_devicesHERE)",
                    "What the producers stand for together.",
                ),
                one(
                    "Readings taken a second",
                    a_second("hourglass_readings_taken_total"),
                    "By Redis, each counted once.",
                    unit="cps",
                    runbook="HourglassProducersSilent",
                ),
                one(
                    "Waiting",
                    "sum(hourglass_readings_bufferedHERE)",
                    "Readings that Redis has not taken yet.",
                    runbook="HourglassReadingsWaiting",
                    warning=1000,
                    critical=50_000,
                ),
                one(
                    "Dropped in an hour",
                    "sum(increase(hourglass_readings_dropped_totalHERE[1h]))",
                    "Readings given up, for whatever reason.",
                    runbook="HourglassReadingsDropped",
                    critical=1,
                ),
            ),
        ),
        (
            "Readings",
            (
                Panel(
                    title="Produced and taken",
                    about="Readings a second, and the entries that hold them.",
                    queries=[
                        (a_second("hourglass_readings_produced_total"), "produced"),
                        (a_second("hourglass_readings_taken_total"), "taken"),
                        (a_second("hourglass_entries_taken_total"), "taken, in entries"),
                        (a_second("hourglass_readings_duplicate_total"), "sent again"),
                    ],
                    unit="cps",
                ),
                Panel(
                    title="Waiting by pod",
                    about="Readings in the buffer.",
                    queries=[("sum by (pod) (hourglass_readings_bufferedHERE)", "{{pod}}")],
                    runbook="HourglassReadingsWaiting",
                    warning=1000,
                ),
                Panel(
                    title="Dropped by reason",
                    about="Readings given up, in five minutes.",
                    queries=[
                        (
                            "sum by (reason) (increase(hourglass_readings_dropped_totalHERE[5m]))",
                            "{{reason}}",
                        )
                    ],
                    runbook="HourglassReadingsDropped",
                ),
            ),
        ),
        (
            "Batches",
            (
                Panel(
                    title="Readings in a batch",
                    about="Half of the batches, and 99 of a hundred, are no larger.",
                    queries=[
                        (
                            (
                                f"histogram_quantile({q}, sum by (le) "
                                "(rate(hourglass_batch_readings_bucketHERE[$__rate_interval])))"
                            ),
                            legend,
                        )
                        for q, legend in ((0.5, "half"), (0.99, "99 %"))
                    ],
                ),
                Panel(
                    title="Tries that failed",
                    about="Redis did not answer; the same batch is tried again.",
                    queries=[(a_second("hourglass_batches_retried_total"), "failed")],
                    unit="cps",
                    runbook="HourglassRedisUnreachable",
                ),
            ),
        ),
        redis_row("hourglass_producer_devices"),
    ),
)
