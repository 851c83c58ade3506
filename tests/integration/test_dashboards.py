"""Each question of the dashboards has an answer, from a real Prometheus that scraped a pipeline."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.dashboard import DASHBOARDS, as_grafana_asks, board, queries
from tests.charts.helm import ROOT
from tests.support.keyspace import KEYS
from tests.support.pipeline import DAY, Pipeline
from tests.support.prometheus import Prometheus, binary, prometheus
from tests.support.services import Services, services
from tests.support.waiting import wait_until

#: A run of the pipeline that Prometheus scrapes in real time.
pytestmark = [pytest.mark.timeout(300), pytest.mark.extended]

#: An hour in six seconds.
SPEED = 600
NAMESPACE = "weather"
OFFERED = {
    "namespace": {NAMESPACE},
    "release": {"producer", "aggregator", "consumer"},
    "stream": {DAY.stream, KEYS.averages},
}
PODS = ("producer-0", "producer-1", "aggregator-0", "aggregator-1", "consumer-0")


def rules() -> list[dict[str, Any]]:
    """As the charts give them to the operator."""
    found: list[dict[str, Any]] = []
    for file in sorted((ROOT / "charts").glob("*/files/*.yaml")):
        text = file.read_text(encoding="utf-8").replace("NAMESPACE", NAMESPACE)
        for rule in yaml.safe_load(text):
            if "alert" in rule:
                rule["labels"]["namespace"] = NAMESPACE
            found.append(rule)
    return found


@pytest.fixture
def scraped(
    pipeline: Pipeline, redis_url: str, tmp_path: Path
) -> Generator[tuple[Prometheus, Services]]:
    if binary() is None:
        pytest.skip("no prometheus on PATH (Debian: prometheus)")
    warehouse = f"sqlite:///{tmp_path}/warehouse.db"
    with services(redis_url, HOURGLASS_WAREHOUSE_URL=warehouse) as running:
        pipeline.run_clock(DAY.day_ms, SPEED)
        for pod in PODS:
            module = {"consumer": "averages_consumer"}.get(pod[:-2], pod[:-2])
            running.start(pod, module)
        running.await_ready(*PODS)
        targets = [
            (
                f"127.0.0.1:{running.port(pod)}",
                {"namespace": NAMESPACE, "pod": pod, "app_kubernetes_io_instance": pod[:-2]},
            )
            for pod in PODS
        ]
        file = tmp_path / "rules.yaml"
        groups = [{"name": "hourglass", "rules": rules()}]
        file.write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
        with prometheus(file) as found:
            found.scrape(targets)
            pipeline.xadd(temp_f="warm")  # one alert fires at once
            yield found, running


def test_every_panel_has_data(scraped: tuple[Prometheus, Services]) -> None:
    found, running = scraped
    silent: dict[tuple[str, str], str] = {}

    def ask_again() -> bool:
        silent.clear()
        for name, title, query in queries():
            asked = as_grafana_asks(query, namespace=NAMESPACE, rate_interval="10s")
            assert "$" not in asked
            if not found.query(asked):
                silent[name, title] = asked
        return not silent

    try:
        wait_until(ask_again, 240, every_s=1)
    except AssertionError:
        pytest.fail(f"no data for {silent}; the services said {running.said('aggregator-0')}")


def test_replicas_are_never_added_up(scraped: tuple[Prometheus, Services]) -> None:
    """Both aggregators export the same partitions; the rules and panels show them once."""
    found, _ = scraped
    both = 'count(hourglass_stream_partitions{namespace="weather"}) == 2'
    wait_until(lambda: found.query(both), message="not both are scraped", every_s=0.5)
    recorded = 'namespace:hourglass_stream_partitions:max{namespace="weather"}'
    wait_until(lambda: found.query(recorded), message="nothing is recorded", every_s=0.5)
    (panel,) = (query for _, title, query in queries() if title == "Live partitions")
    asked = as_grafana_asks(panel, namespace=NAMESPACE, rate_interval="10s")
    assert [value for _, value in found.query(recorded)] == [1]
    assert [value for _, value in found.query(asked)] == [1]


def test_the_variables_offer_what_there_is(scraped: tuple[Prometheus, Services]) -> None:
    found, _ = scraped
    offered: set[str] = set()
    life = next(file for file in DASHBOARDS if file.stem == "hourglass-stream")
    for variable in board(life)["templating"]["list"]:
        if variable["type"] == "query":
            asked = variable["query"].replace("$namespace", NAMESPACE)
            matched = re.fullmatch(r"label_values\((.+), (\w+)\)", asked)
            assert matched, asked
            metric, label = matched.groups()
            wait_until(
                lambda metric=metric, label=label, name=variable["name"]: (
                    set(found.ask(f"label/{label}/values", match=metric)) >= OFFERED[name]
                ),
                message=f"{asked} does not offer all of {OFFERED[variable['name']]}",
            )
            offered.add(variable["name"])
    assert offered == OFFERED.keys()
