"""Is it well? The first look at night: hours on time, readings safe, who is the cause."""

from __future__ import annotations

from charts.tools.dashboards.board import Board, Panel, a_second, one, slowest

FIRING = 'alertname=~"Hourglass.+", alertstate="firing"'
LATEST_AVERAGE = (
    "max(hourglass_last_average_temp_fHERE "
    "and on(pod) topk(1, hourglass_last_average_hour_timestamp_secondsHERE))"
)
#: Where every reading is counted, until the first partition expires at all.
HOURS_LEFT = (
    "min(hourglass_uncounted_expire_in_hoursHERE) "
    "or (min(hourglass_partition_expiry_timestamp_secondsHERE) - time()) / 3600"
)

BOARD = Board(
    uid="hourglass",
    title="Hourglass: is it well",
    about="Hours on time, readings safe, and what is the cause if not.",
    rows=(
        (
            "Now",
            (
                one(
                    "Alerts firing",
                    f'count(ALERTS{{namespace="$namespace", {FIRING}}}) or vector(0)',
                    "Those of Hourglass, listed below.",
                    warning=1,
                    critical=2,
                ),
                one(
                    "Hours overdue",
                    "max(hourglass_hours_overdueHERE)",
                    "Hours that are due and not published.",
                    runbook="HourglassHourOverdue",
                    warning=1,
                    critical=2,
                ),
                one(
                    "Behind",
                    "max(hourglass_aggregate_lag_secondsHERE)",
                    "From the oldest reading that is not counted to now, in event time.",
                    unit="s",
                    runbook="HourglassReadingsFarBehind",
                    warning=60,
                    critical=900,
                ),
                one(
                    "This hour is complete to",
                    "max(hourglass_current_hour_completeness_ratioHERE)",
                    "Readings counted of those due so far.",
                    unit="percentunit",
                    runbook="HourglassHourIncomplete",
                    warning=0.99,
                    critical=0.9,
                ),
                one(
                    "First readings expire in",
                    HOURS_LEFT,
                    "Those that are not counted, if there are any: by then they are gone.",
                    unit="h",
                    runbook="HourglassReadingsAtRisk",
                    warning=24,
                    critical=6,
                ),
                one(
                    "Redis answers",
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
                    "Of the latest hour in the warehouse.",
                    unit="fahrenheit",
                ),
                one(
                    "Average so far",
                    "max(hourglass_current_hour_average_temp_fHERE)",
                    "Of the hour in progress.",
                    unit="fahrenheit",
                ),
                one(
                    "To load",
                    'max(hourglass_stream_group_lag{namespace="$namespace", '
                    'stream=~".+:averages"}) + max(hourglass_stream_group_messages_pending'
                    '{namespace="$namespace", stream=~".+:averages"})',
                    "Averages on the stream that the warehouse does not have.",
                    runbook="HourglassAveragesNotLoaded",
                    warning=2,
                    critical=48,
                ),
                one(
                    "Missing hours",
                    "max(hourglass_warehouse_missing_hoursHERE)",
                    "Trimmed from the stream before the warehouse had them.",
                    runbook="HourglassHoursMissing",
                    critical=1,
                ),
            ),
        ),
        (
            "Flow",
            (
                Panel(
                    title="Readings a second",
                    about="Given by the devices, taken by Redis, counted into an hour.",
                    queries=[
                        (a_second("hourglass_readings_produced_total"), "produced"),
                        (a_second("hourglass_readings_taken_total"), "taken"),
                        (a_second("hourglass_readings_counted_total"), "counted"),
                    ],
                    unit="cps",
                    runbook="HourglassLagGrowing",
                ),
                Panel(
                    title="From an hour's end to its average",
                    about="In real time, the allowed lateness included.",
                    queries=slowest("hourglass_publish_delay_seconds", over="1h"),
                    unit="s",
                    runbook="HourglassHourOverdue",
                    warning=60,
                    critical=600,
                ),
                Panel(
                    title="Not averaged",
                    about="Readings dropped, late, or in quarantine, in five minutes.",
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
                    about="What fires, with its labels.",
                    queries=[(f'ALERTS{{namespace="$namespace", {FIRING}}}', "")],
                    kind="table",
                ),
                Panel(
                    title="Parts in trouble",
                    about="A loop of a pod, or its reader of a partition; /readyz says why.",
                    queries=[("sum by (pod) (hourglass_troubleHERE)", "{{pod}}")],
                    warning=1,
                ),
                Panel(
                    title="Shards",
                    about="1 for a master that answers, as the pods see it.",
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
                    title="Clocks of Redis",
                    about="How far a master's clock deviates from the median; beyond 2 s no hour "
                    "is sealed there.",
                    queries=[
                        (
                            "max by (shard) (hourglass_redis_clock_deviation_secondsHERE)",
                            "{{shard}}, at most",
                        ),
                        (
                            "min by (shard) (hourglass_redis_clock_deviation_secondsHERE)",
                            "{{shard}}, at least",
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
