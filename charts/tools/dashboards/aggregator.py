"""The aggregators: do they keep up, and do hours come out?"""

from __future__ import annotations

from charts.tools.dashboards.board import Board, Panel, a_second, one, slowest
from charts.tools.dashboards.common import redis_row

BOARD = Board(
    uid="hourglass-aggregator",
    title="Hourglass: aggregator",
    about="Counting, sealing and publishing.",
    rows=(
        (
            "Hours",
            (
                one(
                    "Due",
                    "max(hourglass_hours_dueHERE)",
                    "Hours of live partitions that are over.",
                ),
                one(
                    "Overdue",
                    "max(hourglass_hours_overdueHERE)",
                    "Those that are not published.",
                    runbook="HourglassHourOverdue",
                    warning=1,
                    critical=2,
                ),
                one(
                    "Published ahead",
                    "max(hourglass_published_ahead_secondsHERE)",
                    "Seconds until the last published hour is over; until then none is published.",
                    runbook="HourglassPublishedAhead",
                    critical=5,
                ),
                one(
                    "Published in a day",
                    "sum(increase(hourglass_hours_published_totalHERE[1d]))",
                    "By the pods that run.",
                ),
                one(
                    "Revised in a day",
                    "sum(increase(hourglass_hours_revised_totalHERE[1d]))",
                    "Published hours that came out differently after a failover.",
                    runbook="HourglassHourRevised",
                    warning=1,
                ),
                one(
                    "Gone",
                    "sum(max by (stream) (hourglass_readings_goneHERE))",
                    "Readings of the live partitions that Redis had taken and has lost.",
                    runbook="HourglassReadingsGone",
                    critical=1,
                ),
                one(
                    "Stray streams",
                    "sum(max by (reason) (hourglass_stray_streamsHERE))",
                    "Streams that nobody reads, because of their names.",
                    runbook="HourglassStrayStreams",
                    warning=1,
                ),
                one(
                    "This hour",
                    "max(hourglass_current_hour_readingsHERE)",
                    "Readings counted so far in the hour in progress.",
                ),
            ),
        ),
        (
            "Counting",
            (
                Panel(
                    title="Counted by pod",
                    about="Readings a second.",
                    queries=[
                        (
                            (
                                "sum by (pod) (rate(hourglass_readings_counted_totalHERE"
                                "[$__rate_interval]))"
                            ),
                            "{{pod}}",
                        )
                    ],
                    unit="cps",
                ),
                Panel(
                    title="Waiting",
                    about="Entries not counted yet, and the readings in them, over all partitions.",
                    queries=[
                        ("max(hourglass_aggregate_lagHERE)", "entries"),
                        ("max(hourglass_aggregate_lag_readingsHERE)", "readings"),
                    ],
                    runbook="HourglassLagGrowing",
                    warning=10_000,
                ),
                Panel(
                    title="Behind",
                    about="Age of the oldest reading that is not counted, in event time.",
                    queries=[("max(hourglass_aggregate_lag_secondsHERE)", "behind")],
                    unit="s",
                    runbook="HourglassReadingsFarBehind",
                    critical=900,
                ),
            ),
        ),
        (
            "Batches",
            (
                Panel(
                    title="Time to commit",
                    about="One batch, there and back.",
                    queries=slowest("hourglass_commit_seconds"),
                    unit="s",
                ),
                Panel(
                    title="Entries in a batch",
                    about="Half of the batches, and 99 of a hundred, are no larger.",
                    queries=slowest("hourglass_batch_entries"),
                ),
                Panel(
                    title="Taken over, and begun anew",
                    about="Entries claimed from others; commits of which part had been claimed.",
                    queries=[
                        (a_second("hourglass_entries_reclaimed_total"), "reclaimed"),
                        (a_second("hourglass_commit_conflicts_total"), "conflicts"),
                    ],
                    unit="cps",
                    runbook="HourglassPendingStuck",
                ),
            ),
        ),
        (
            "Not averaged",
            (
                Panel(
                    title="Late",
                    about="Readings that came after their hour was sealed, in five minutes.",
                    queries=[("sum(increase(hourglass_readings_late_totalHERE[5m]))", "late")],
                    runbook="HourglassReadingsLate",
                ),
                Panel(
                    title="Quarantined by reason",
                    about="Readings that cannot be used, in five minutes.",
                    queries=[
                        (
                            (
                                "sum by (reason) "
                                "(increase(hourglass_readings_quarantined_totalHERE[5m]))"
                            ),
                            "{{reason}}",
                        )
                    ],
                    runbook="HourglassQuarantineGrowing",
                ),
            ),
        ),
        redis_row("hourglass_hours_due"),
    ),
)
