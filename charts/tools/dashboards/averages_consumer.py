"""The averages consumers: do averages reach the warehouse?"""

from __future__ import annotations

from charts.tools.dashboards.board import Board, Panel, a_second, one, slowest
from charts.tools.dashboards.common import redis_row
from charts.tools.dashboards.well import LATEST_AVERAGE

AVERAGES = '{namespace="$namespace", stream=~".+:averages"}'

BOARD = Board(
    uid="hourglass-averages-consumer",
    title="Hourglass: averages consumer",
    about="From the stream of averages to the warehouse.",
    rows=(
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
                    "Latest hour",
                    "1000 * max(hourglass_last_average_hour_timestamp_secondsHERE)",
                    "Start of the latest hour in the warehouse, in event time.",
                    unit="dateTimeAsIso",
                ),
                one(
                    "Averages on the stream",
                    f"max(hourglass_stream_length{AVERAGES})",
                    "The stream keeps 120, five days.",
                ),
                one(
                    "Missing hours",
                    "max(hourglass_warehouse_rows_missingHERE)",
                    "Hours that were trimmed before they were loaded and cannot be restored.",
                    runbook="HourglassHoursMissing",
                    critical=1,
                ),
            ),
        ),
        (
            "Loading",
            (
                Panel(
                    title="To load",
                    about="Averages not delivered to a consumer, or not acknowledged.",
                    queries=[
                        (f"max(hourglass_stream_group_lag{AVERAGES})", "not delivered"),
                        (
                            f"max(hourglass_stream_group_messages_pending{AVERAGES})",
                            "not acknowledged",
                        ),
                    ],
                    runbook="HourglassAveragesNotLoaded",
                    warning=2,
                    critical=48,
                ),
                Panel(
                    title="Averages per hour",
                    about="Averages loaded, loaded again because they were missing, reclaimed, "
                    "invalid, revised.",
                    queries=[
                        (f"3600 * {a_second('hourglass_averages_loaded_total')}", "loaded"),
                        (f"3600 * {a_second('hourglass_averages_refilled_total')}", "refilled"),
                        (f"3600 * {a_second('hourglass_averages_reclaimed_total')}", "reclaimed"),
                        (f"3600 * {a_second('hourglass_averages_invalid_total')}", "invalid"),
                        (f"3600 * {a_second('hourglass_warehouse_revisions_total')}", "revised"),
                    ],
                ),
            ),
        ),
        (
            "Warehouse",
            (
                Panel(
                    title="Write time",
                    about="Time until the warehouse has committed a batch of averages.",
                    queries=slowest("hourglass_warehouse_write_seconds", over="1h"),
                    unit="s",
                    warning=1,
                ),
                Panel(
                    title="Failed writes",
                    about="Writes that the warehouse did not answer, in five minutes.",
                    queries=[("sum(increase(hourglass_warehouse_errors_totalHERE[5m]))", "failed")],
                    runbook="HourglassWarehouseUnreachable",
                    warning=1,
                ),
            ),
        ),
        redis_row("hourglass_warehouse_rows_missing"),
    ),
)
