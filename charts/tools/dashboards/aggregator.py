"""The aggregators: is counting up to date, and are hours published?"""

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
                    "max(hourglass_averages_dueHERE)",
                    "Hours of live partitions that are over.",
                ),
                one(
                    "Overdue",
                    "max(hourglass_averages_overdueHERE)",
                    "Hours that are due and not published.",
                    runbook="HourglassHourOverdue",
                    warning=1,
                    critical=2,
                ),
                one(
                    "Published ahead",
                    "max(hourglass_published_ahead_secondsHERE)",
                    "Seconds until the last published hour is over; none is published earlier.",
                    runbook="HourglassPublishedAhead",
                    critical=5,
                ),
                one(
                    "Published in the last day",
                    "sum(increase(hourglass_averages_published_totalHERE[1d]))",
                    "Hours published by the running pods.",
                ),
                one(
                    "Revised in the last day",
                    "sum(increase(hourglass_averages_revised_totalHERE[1d]))",
                    "Published hours that were sealed again with another result after a failover.",
                    runbook="HourglassHourRevised",
                    warning=1,
                ),
                one(
                    "Lost readings",
                    "sum(max by (stream) (hourglass_readings_lostHERE))",
                    "Readings of the live partitions that Redis had acknowledged and lost.",
                    runbook="HourglassReadingsLost",
                    critical=1,
                ),
                one(
                    "Stray streams",
                    "sum(max by (reason) (hourglass_stray_streamsHERE))",
                    "Streams that no aggregator reads, because of their names.",
                    runbook="HourglassStrayStreams",
                    warning=1,
                ),
                one(
                    "Readings of this hour",
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
                    about="Readings counted per second.",
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
                    title="Commit time",
                    about="Round trip of the commit of one batch.",
                    queries=slowest("hourglass_commit_seconds"),
                    unit="s",
                ),
                Panel(
                    title="Entries per batch",
                    about="Median and 99th percentile of the batch size.",
                    queries=slowest("hourglass_batch_entries"),
                ),
                Panel(
                    title="Reclaimed entries and conflicts",
                    about="Entries reclaimed from other consumers, and commits with entries that "
                    "others had reclaimed.",
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
            "Readings in no average",
            (
                Panel(
                    title="Late",
                    about="Readings that arrived after their hour was sealed, in five minutes.",
                    queries=[("sum(increase(hourglass_readings_late_totalHERE[5m]))", "late")],
                    runbook="HourglassReadingsLate",
                ),
                Panel(
                    title="Quarantined by reason",
                    about="Readings that went to quarantine, in five minutes.",
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
        redis_row("hourglass_averages_due"),
    ),
)
