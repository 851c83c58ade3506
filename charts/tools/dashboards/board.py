"""Panels and dashboards, and their JSON for Grafana."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as grafana
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
#: The operator's monitors copy this label from the pods. `.*` matches its absence too.
RELEASE = "app_kubernetes_io_instance"
HERE = f'{{namespace="$namespace", {RELEASE}=~"$release"}}'
STREAM = f'{{namespace="$namespace", {RELEASE}=~"$release", stream=~"$stream"}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel: pairs of query and legend. In a query HERE selects namespace and release, STREAM
    the streams as well.

    kind: stat for one number, table for rows, graph for the rest
    runbook: the alert whose runbook applies
    warning, critical: where the value turns yellow and red; downwards if critical is less
    """

    title: str
    about: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: str = "graph"
    runbook: str = ""
    warning: float | None = None
    critical: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One dashboard: titled rows of panels. `streams`: whether the stream is a variable."""

    uid: str
    title: str
    about: str
    rows: Sequence[tuple[str, Sequence[Panel]]]
    streams: bool = False


def one(title: str, query: str, about: str, **more: object) -> Panel:
    """A panel with one number."""
    return Panel(title=title, about=about, queries=[(query, "")], kind="stat", **more)  # pyright: ignore[reportArgumentType]


def a_second(counter: str) -> str:
    """The rate over the shortest interval that the scrape interval allows."""
    return f"sum(rate({counter}HERE[$__rate_interval]))"


def slowest(histogram: str, *, over: str = "$__rate_interval") -> list[tuple[str, str]]:
    """The median and the 99th percentile."""
    return [
        (f"histogram_quantile({q}, sum by (le) (rate({histogram}_bucketHERE[{over}])))", legend)
        for q, legend in ((0.5, "median"), (0.99, "99 %"))
    ]


def expression(query: str) -> str:
    """The query with its selectors."""
    return query.replace("HERE", HERE).replace("STREAM", STREAM)


def as_json(board: Board) -> str:
    """The JSON text that Grafana imports."""
    made = (
        grafana.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags(["hourglass"])
        .timezone("utc")
        .refresh("30s")
        .time("now-6h", "now")
        .readonly()
        .with_variable(grafana.DatasourceVariable("datasource").label("Source").type("prometheus"))
        .with_variable(_variable("namespace", "hourglass_build_info"))
        .with_variable(
            _variable("release", 'hourglass_build_info{namespace="$namespace"}', RELEASE)
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )
        .link(
            grafana.DashboardLink("Hourglass")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["hourglass"])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
    )
    if board.streams:
        made = made.with_variable(
            _variable("stream", 'hourglass_stream_length{namespace="$namespace"}')
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )
    made = made.with_variable(
        grafana.TextBoxVariable("runbooks").label("Runbooks").default_value("docs/runbooks")
    )
    for title, panels in board.rows:
        made = made.with_row(grafana.Row(title))
        for panel in panels:
            made = made.with_panel(_panel(panel, width=24 // len(panels)))
    return json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _variable(name: str, metric: str, label: str = "") -> grafana.QueryVariable:
    return (
        grafana.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query(f"label_values({metric}, {label or name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    )


def _panel(panel: Panel, *, width: int) -> stat.Panel | table.Panel | timeseries.Panel:
    made = {"stat": _stat, "table": _table, "graph": _graph}[panel.kind](panel)
    made = (
        made.title(panel.title)
        .description(panel.about)
        .datasource(SOURCE)
        .unit(panel.unit)
        .span(width)
        .thresholds(
            grafana.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(_thresholds(panel))
        )
    )
    if panel.runbook:
        page = f"${{runbooks}}/{panel.runbook}.md"
        made = made.links([grafana.DashboardLink("What to do").url(page).target_blank(True)])
    for query, legend in panel.queries:
        target = prometheus.Dataquery().expr(expression(query)).datasource(SOURCE)
        if panel.kind == "table":
            target = target.instant().format(PromQueryFormat.TABLE)
        elif "_seconds_bucket" in query:
            target = target.exemplar(True)  # the dots that lead from a latency to its trace
        made = made.with_target(target.legend_format(legend))
    return made


def _thresholds(panel: Panel) -> list[Threshold]:
    marks = {"yellow": panel.warning, "red": panel.critical}
    steps = sorted((value, color) for color, value in marks.items() if value is not None)
    first, last = panel.warning, panel.critical
    if first is not None and last is not None and last < first:  # the less, the worse
        return [
            Threshold(value=None, color="red"),
            Threshold(value=last, color="yellow"),
            Threshold(value=first, color="green"),
        ]
    return [
        Threshold(value=None, color="green"),
        *(Threshold(value=value, color=color) for value, color in steps),
    ]


def _stat(_: Panel) -> stat.Panel:
    return stat.Panel().height(4)


def _table(_: Panel) -> table.Panel:
    return table.Panel().height(8)


def _graph(panel: Panel) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .height(8)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    if panel.warning is None and panel.critical is None:
        return made
    style = common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED)
    return made.thresholds_style(style)
