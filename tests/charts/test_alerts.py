"""Each alert fires when it should, and not when it should not: promtool's unit tests, run on the
rules as the charts render them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.helm import ROOT, SERVICES, Helm, one
from tests.charts.scenarios import MONITORED

pytestmark = pytest.mark.extended

CASES = Path(__file__).parent / "alerts"
PLAIN_RULES = ROOT / "deploy" / "prometheus" / "hourglass.rules.yaml"
PLAIN: Mapping[str, Any] = {"prometheusRule": {"enabled": True}}


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool on PATH (Debian: prometheus)")
    return found


def rendered(helm: Helm, chart: str, values: Mapping[str, Any] = PLAIN) -> dict[str, Any]:
    """What Prometheus is given."""
    return one(helm.render(chart, values, namespace="weather"), "PrometheusRule")["spec"]


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("chart", SERVICES)
@pytest.mark.parametrize("values", [PLAIN, MONITORED], ids=["plain", "labelled"])
def test_promtool_takes_the_rules(
    newest: Helm, chart: str, values: Mapping[str, Any], promtool: str, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(rendered(newest, chart, values)), encoding="utf-8")
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", rules)


@pytest.mark.parametrize("chart", SERVICES)
def test_alerts_fire_and_keep_silent(
    newest: Helm, chart: str, promtool: str, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(rendered(newest, chart)), encoding="utf-8")
    run(promtool, "test", "rules", shutil.copy(CASES / f"{chart}.yaml", tmp_path))


def test_promtool_takes_the_plain_rules(promtool: str) -> None:
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", PLAIN_RULES)


@pytest.mark.parametrize("chart", SERVICES)
def test_the_plain_rules_fire_and_keep_silent_as_the_charts_do(
    chart: str, promtool: str, tmp_path: Path
) -> None:
    """They ask for no namespace, and tell of it: of the cases one is left."""
    shutil.copy(PLAIN_RULES, tmp_path / "rules.yaml")
    # As texts: 0x20 is twenty zeros more, and no number.
    cases = yaml.load((CASES / f"{chart}.yaml").read_text("utf-8"), Loader=yaml.BaseLoader)
    for test in cases["tests"]:
        test["input_series"] = [
            each for each in test["input_series"] if 'namespace="elsewhere"' not in each["series"]
        ]
        for case in test.get("promql_expr_test", []):
            for sample in case["exp_samples"]:
                sample["value"] = float(sample["value"])
    cases["tests"] = [test for test in cases["tests"] if test["input_series"]]
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(cases), encoding="utf-8")
    run(promtool, "test", "rules", tmp_path / "cases.yaml")


def test_the_plain_rules_tell_installations_apart(promtool: str, tmp_path: Path) -> None:
    shutil.copy(PLAIN_RULES, tmp_path / "rules.yaml")
    run(promtool, "test", "rules", shutil.copy(CASES / "two-installations.yaml", tmp_path))


@pytest.mark.parametrize("chart", SERVICES)
def test_each_alert_has_cases_of_both_kinds(newest: Helm, chart: str) -> None:
    """In groups of their own, so that keeping silent is more than not having begun yet."""
    (group,) = rendered(newest, chart)["groups"]
    alerts = {rule["alert"] for rule in group["rules"] if "alert" in rule}
    fires, silent = set[str](), set[str]()
    for test in yaml.safe_load((CASES / f"{chart}.yaml").read_text(encoding="utf-8"))["tests"]:
        cases = test.get("alert_rule_test", [])
        asked = {case["alertname"] for case in cases}
        fired = {case["alertname"] for case in cases if case["exp_alerts"]}
        fires |= fired
        silent |= asked - fired
    assert fires == silent == alerts
