"""The Grafana dashboard of the pipeline, built with Grafana's own library."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as board
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef

SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
HERE = '{namespace="$namespace"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel: pairs of query and legend. In a query HERE selects the namespace."""

    title: str
    about: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    single: bool = False


def a_second(counter: str) -> str:
    """Over as short a time as Prometheus' scrape interval lets Grafana look at."""
    return f"sum(rate({counter}HERE[$__rate_interval]))"


def slowest(histogram: str, *, over: str) -> str:
    """What 95 of a hundred do not exceed."""
    return f"histogram_quantile(0.95, sum by (le) (rate({histogram}_bucketHERE[{over}])))"


LATEST_AVERAGE = (
    "max(hourglass_last_average_temp_fHERE "
    "and on(pod) topk(1, hourglass_last_average_hour_timestamp_secondsHERE))"
)
TIME_TO_LIVE = "max by (stream) (hourglass_partition_expiry_timestamp_secondsHERE) - time()"


def here(query: str) -> str:
    return query.replace("HERE", HERE)


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "At a glance",
        (
            Panel(
                title="Devices",
                about="What the producers stand for together.",
                queries=[("sum(hourglass_producer_devicesHERE)", "")],
                single=True,
            ),
            Panel(
                title="Live partitions",
                about="Days whose readings have not expired.",
                queries=[("max(hourglass_stream_partitionsHERE)", "")],
                single=True,
            ),
            Panel(
                title="Aggregate lag",
                about="Entries not counted yet, over all partitions; no value while unknown.",
                queries=[("max(hourglass_aggregate_lagHERE)", "")],
                single=True,
            ),
            Panel(
                title="Hours overdue",
                about="Hours that are due and not sealed.",
                queries=[("max(hourglass_hours_overdueHERE)", "")],
                single=True,
            ),
            Panel(
                title="Latest average",
                about="Of the latest hour in the warehouse.",
                queries=[(LATEST_AVERAGE, "")],
                unit="fahrenheit",
                single=True,
            ),
            Panel(
                title="Missing hours",
                about="Trimmed from the stream before the warehouse had them.",
                queries=[("max(hourglass_warehouse_missing_hoursHERE)", "")],
                single=True,
            ),
        ),
    ),
    (
        "Readings",
        (
            Panel(
                title="Readings a second",
                about="Given by the devices, taken by Redis, counted into an hour.",
                queries=[
                    (
                        a_second("hourglass_readings_produced_total"),
                        "produced",
                    ),
                    (a_second("hourglass_readings_taken_total"), "taken"),
                    (
                        a_second("hourglass_readings_counted_total"),
                        "counted",
                    ),
                ],
                unit="cps",
            ),
            Panel(
                title="Readings not averaged",
                about="Dropped by a producer, late, or in quarantine.",
                queries=[
                    (
                        "sum by (reason) (rate(hourglass_readings_dropped_totalHERE[5m]))",
                        "dropped: {{reason}}",
                    ),
                    ("sum(rate(hourglass_readings_late_totalHERE[5m]))", "late"),
                    (
                        "sum by (reason) (rate(hourglass_readings_quarantined_totalHERE[5m]))",
                        "quarantined: {{reason}}",
                    ),
                ],
                unit="cps",
            ),
            Panel(
                title="Waiting in the producers",
                about="Readings that Redis has not taken yet.",
                queries=[("sum(hourglass_readings_bufferedHERE)", "buffered")],
            ),
        ),
    ),
    (
        "Partitions",
        (
            Panel(
                title="Stream length",
                about="Entries in each stream.",
                queries=[("max by (stream) (hourglass_stream_lengthHERE)", "{{stream}}")],
            ),
            Panel(
                title="Lag",
                about="Entries not delivered to the group yet; a gap means unknown.",
                queries=[
                    (
                        "max by (stream, group) (hourglass_stream_group_lagHERE)",
                        "{{stream}} {{group}}",
                    )
                ],
            ),
            Panel(
                title="Pending",
                about="Entries delivered and not acknowledged.",
                queries=[
                    (
                        "max by (stream, group) (hourglass_stream_group_messages_pendingHERE)",
                        "{{stream}} {{group}}",
                    )
                ],
            ),
            Panel(
                title="Time to live",
                about="Until a partition expires.",
                queries=[(TIME_TO_LIVE, "{{stream}}")],
                unit="s",
            ),
        ),
    ),
    (
        "Averages",
        (
            Panel(
                title="Hourly average",
                about="As loaded into the warehouse.",
                queries=[("max(hourglass_last_average_temp_fHERE)", "average")],
                unit="fahrenheit",
            ),
            Panel(
                title="Averages a minute",
                about="Published by the aggregators, loaded by the consumers.",
                queries=[
                    ("60 * sum(rate(hourglass_hours_published_totalHERE[5m]))", "published"),
                    ("60 * sum(rate(hourglass_averages_loaded_totalHERE[5m]))", "loaded"),
                ],
            ),
            Panel(
                title="Time to publish, 95 % of hours",
                about="From an hour's end to its average, lateness included.",
                queries=[(slowest("hourglass_publish_delay_seconds", over="1h"), "95 %")],
                unit="s",
            ),
            Panel(
                title="Time to commit, 95 % of batches",
                about="One batch, there and back.",
                queries=[(slowest("hourglass_commit_seconds", over="5m"), "95 %")],
                unit="s",
            ),
        ),
    ),
)


def dashboard() -> str:
    """The dashboard as JSON."""
    made = (
        board.Dashboard("Hourglass")
        .uid("hourglass")
        .description("One average an hour from one reading a second.")
        .tags(["hourglass"])
        .timezone("utc")
        .refresh("30s")
        .time("now-6h", "now")
        .readonly()
        .with_variable(board.DatasourceVariable("datasource").label("Source").type("prometheus"))
        .with_variable(
            board.QueryVariable("namespace")
            .label("Namespace")
            .datasource(SOURCE)
            .query("label_values(hourglass_stream_partitions, namespace)")
        )
    )
    for title, panels in ROWS:
        made = made.with_row(board.Row(title))
        for panel in panels:
            made = made.with_panel(_panel(panel, width=24 // len(panels)))
    return json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _panel(panel: Panel, *, width: int) -> stat.Panel | timeseries.Panel:
    made = (
        stat.Panel().height(4)
        if panel.single
        else timeseries.Panel()
        .height(8)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    made = (
        made.title(panel.title)
        .description(panel.about)
        .datasource(SOURCE)
        .unit(panel.unit)
        .span(width)
    )
    for query, legend in panel.queries:
        made = made.with_target(
            prometheus.Dataquery().expr(here(query)).legend_format(legend).datasource(SOURCE)
        )
    return made
