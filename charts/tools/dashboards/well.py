"""The overview: are hours on time, are readings safe, and what is the cause if not?"""

from __future__ import annotations

from charts.tools.dashboards.board import Board, Panel, a_second, one, slowest

FIRING = 'alertname=~"Hourglass.+", alertstate="firing"'
LATEST_AVERAGE = (
    "max(hourglass_last_average_temp_fHERE "
    "and on(pod) topk(1, hourglass_last_average_hour_timestamp_secondsHERE))"
)
#: Where every reading is counted, the time until any partition expires.
UNCOUNTED_EXPIRY = (
    "min(hourglass_uncounted_expiry_secondsHERE) "
    "or (min(hourglass_partition_expiry_timestamp_secondsHERE) - time())"
)

BOARD = Board(
    uid="hourglass",
    title="Hourglass: overview",
    about="Whether hours are on time and readings are safe, and the cause if not.",
    rows=(
        (
            "Now",
            (
                one(
                    "Alerts firing",
                    f'count(ALERTS{{namespace="$namespace", {FIRING}}}) or vector(0)',
                    "Alerts of Hourglass that fire, listed below.",
                    warning=1,
                    critical=2,
                ),
                one(
                    "Hours overdue",
                    "max(hourglass_averages_overdueHERE)",
                    "Hours that are due and not published.",
                    runbook="HourglassHourOverdue",
                    warning=1,
                    critical=2,
                ),
                one(
                    "Behind",
                    "max(hourglass_aggregate_lag_secondsHERE)",
                    "Age of the oldest reading that is not counted, in event time.",
                    unit="s",
                    runbook="HourglassReadingsFarBehind",
                    warning=60,
                    critical=900,
                ),
                one(
                    "Completeness of this hour",
                    "max(hourglass_current_hour_completeness_ratioHERE)",
                    "Counted readings, of those due so far.",
                    unit="percentunit",
                    runbook="HourglassHourIncomplete",
                    warning=0.99,
                    critical=0.9,
                ),
                one(
                    "Time until readings expire",
                    UNCOUNTED_EXPIRY,
                    "Until the first partition expires: one with uncounted readings, if any.",
                    unit="s",
                    runbook="HourglassReadingsAtRisk",
                    warning=24 * 3600,
                    critical=6 * 3600,
                ),
                one(
                    "Redis reachable",
                    "min(hourglass_redis_upHERE)",
                    "1 if every shard answers every pod.",
                    runbook="HourglassRedisUnreachable",
                    warning=1,
                    critical=0.5,
                ),
            ),
        ),
        (
            "Averages",
            (
                one(
                    "Latest average",
                    LATEST_AVERAGE,
                    "The average of the latest hour in the warehouse.",
                    unit="fahrenheit",
                ),
                one(
                    "Average so far",
                    "max(hourglass_current_hour_average_temp_fHERE)",
                    "The average of the hour in progress.",
                    unit="fahrenheit",
                ),
                one(
                    "To load",
                    'max(hourglass_stream_group_lag{namespace="$namespace", '
                    'stream=~".+:averages"}) + max(hourglass_stream_group_messages_pending'
                    '{namespace="$namespace", stream=~".+:averages"})',
                    "Averages on the stream that are not in the warehouse.",
                    runbook="HourglassAveragesNotLoaded",
                    warning=2,
                    critical=48,
                ),
                one(
                    "Missing hours",
                    "max(hourglass_warehouse_rows_missingHERE)",
                    "Hours that were trimmed from the stream before they were loaded.",
                    runbook="HourglassHoursMissing",
                    critical=1,
                ),
            ),
        ),
        (
            "Flow",
            (
                Panel(
                    title="Readings per second",
                    about="Readings produced by the devices, acknowledged by Redis, counted into "
                    "an hour.",
                    queries=[
                        (a_second("hourglass_readings_produced_total"), "produced"),
                        (a_second("hourglass_readings_taken_total"), "acknowledged"),
                        (a_second("hourglass_readings_counted_total"), "counted"),
                    ],
                    unit="cps",
                    runbook="HourglassLagGrowing",
                ),
                Panel(
                    title="Publish delay",
                    about="Wall time from the end of an hour to its average, including the allowed "
                    "lateness.",
                    queries=slowest("hourglass_publish_delay_seconds", over="1h"),
                    unit="s",
                    runbook="HourglassHourOverdue",
                    warning=60,
                    critical=600,
                ),
                Panel(
                    title="Readings in no average",
                    about="Readings dropped, late or quarantined, in five minutes.",
                    queries=[
                        ("sum(increase(hourglass_readings_dropped_totalHERE[5m]))", "dropped"),
                        ("sum(increase(hourglass_readings_late_totalHERE[5m]))", "late"),
                        (
                            "sum(increase(hourglass_readings_quarantined_totalHERE[5m]))",
                            "quarantined",
                        ),
                    ],
                    runbook="HourglassQuarantineGrowing",
                ),
            ),
        ),
        (
            "Causes",
            (
                Panel(
                    title="Alerts",
                    about="The alerts that fire, with their labels.",
                    queries=[(f'ALERTS{{namespace="$namespace", {FIRING}}}', "")],
                    kind="table",
                ),
                Panel(
                    title="Failing workers",
                    about="Workers that fail, by pod; /readyz of the pod gives the reason.",
                    queries=[("sum by (pod) (hourglass_worker_failingHERE)", "{{pod}}")],
                    warning=1,
                ),
                Panel(
                    title="Shards",
                    about="1 for a master that answers every pod, else 0.",
                    queries=[("min by (shard) (hourglass_redis_shard_upHERE)", "{{shard}}")],
                    runbook="HourglassShardDown",
                ),
                Panel(
                    title="Eviction possible",
                    about="1 for a master that may delete readings when its memory is full.",
                    queries=[
                        ("max by (shard) (hourglass_redis_eviction_possibleHERE)", "{{shard}}")
                    ],
                    runbook="HourglassEvictionPossible",
                    critical=1,
                ),
                Panel(
                    title="Clock deviation of Redis",
                    about="Deviation of a master's clock from the median. Beyond 2 s no hour "
                    "of its partitions is sealed.",
                    queries=[
                        (
                            "max by (shard) (hourglass_redis_clock_deviation_secondsHERE)",
                            "{{shard}}, maximum",
                        ),
                        (
                            "min by (shard) (hourglass_redis_clock_deviation_secondsHERE)",
                            "{{shard}}, minimum",
                        ),
                    ],
                    unit="s",
                    runbook="HourglassRedisClockWrong",
                    critical=2,
                ),
            ),
        ),
    ),
)
