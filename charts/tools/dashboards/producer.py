"""The producers: do the readings of the devices reach Redis?"""

from __future__ import annotations

from charts.tools.dashboards.board import Board, Panel, a_second, one
from charts.tools.dashboards.common import redis_row

BOARD = Board(
    uid="hourglass-producer",
    title="Hourglass: producer",
    about="Devices, their readings, and the way of the readings to Redis.",
    rows=(
        (
            "Devices",
            (
                one(
                    "Devices",
                    "sum(hourglass_producer_devicesHERE)",
                    "Number of devices of all producers.",
                ),
                one(
                    "Readings acknowledged per second",
                    a_second("hourglass_readings_taken_total"),
                    "Readings that Redis acknowledged, each counted once.",
                    unit="cps",
                    runbook="HourglassProducersSilent",
                ),
                one(
                    "Waiting",
                    "sum(hourglass_readings_bufferedHERE)",
                    "Readings in the buffers that Redis has not acknowledged.",
                    runbook="HourglassReadingsWaiting",
                    warning=1000,
                    critical=50_000,
                ),
                one(
                    "Dropped in the last hour",
                    "sum(increase(hourglass_readings_dropped_totalHERE[1h]))",
                    "Readings dropped, for any reason.",
                    runbook="HourglassReadingsDropped",
                    critical=1,
                ),
            ),
        ),
        (
            "Readings",
            (
                Panel(
                    title="Produced and acknowledged",
                    about="Readings per second, and the entries that hold them.",
                    queries=[
                        (a_second("hourglass_readings_produced_total"), "produced"),
                        (a_second("hourglass_readings_taken_total"), "acknowledged"),
                        (a_second("hourglass_entries_taken_total"), "acknowledged entries"),
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
                    about="Readings dropped in five minutes.",
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
                    title="Readings per batch",
                    about="Median and 99th percentile of the batch size.",
                    queries=[
                        (
                            (
                                f"histogram_quantile({q}, sum by (le) "
                                "(rate(hourglass_batch_readings_bucketHERE[$__rate_interval])))"
                            ),
                            legend,
                        )
                        for q, legend in ((0.5, "median"), (0.99, "99 %"))
                    ],
                ),
                Panel(
                    title="Failed attempts",
                    about="Attempts that Redis did not answer; the same batch is sent again.",
                    queries=[(a_second("hourglass_batches_retried_total"), "failed")],
                    unit="cps",
                    runbook="HourglassRedisUnreachable",
                ),
            ),
        ),
        redis_row("hourglass_producer_devices"),
    ),
)
