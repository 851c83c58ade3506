"""`python -m charts.tools [--check]`: writes the generated files, or lists the stale ones."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from charts.tools.dashboards import dashboards
from charts.tools.redis_cluster import REDIS_CLUSTER_DEV
from charts.tools.rules import CHARTS, plain_rules, recording
from charts.tools.services import AGGREGATOR, AVERAGES_CONSUMER, PRODUCER
from charts.tools.values import Group, values_schema, values_table, values_yaml

VALUES: dict[str, Group] = {
    "producer": PRODUCER,
    "aggregator": AGGREGATOR,
    "averages-consumer": AVERAGES_CONSUMER,
    "redis-cluster-dev": REDIS_CLUSTER_DEV,
}
_TABLE = re.compile(r"(<!-- values:begin -->\n).*?(<!-- values:end -->)", re.DOTALL)


def generated(charts: Path = CHARTS) -> dict[Path, str]:
    """The text of every generated file."""
    files: dict[Path, str] = {}
    for chart, values in VALUES.items():
        files[charts / chart / "values.yaml"] = values_yaml(chart, values)
        files[charts / chart / "values.schema.json"] = values_schema(chart, values)
        readme = charts / chart / "README.md"
        table = values_table(values)
        files[readme] = _TABLE.sub(
            lambda match, table=table: f"{match[1]}{table}\n{match[2]}",
            readme.read_text(encoding="utf-8"),
        )
    for name, text in dashboards().items():
        files[charts / "aggregator" / "files" / "dashboards" / name] = text
    files[charts / "aggregator" / "files" / "recording.yaml"] = recording()
    files[charts.parent / "deploy" / "prometheus" / "hourglass.rules.yaml"] = plain_rules(charts)
    for name in ("users.acl", "users.sh"):  # a chart can ship no file from outside its folder
        original = charts.parent / "deploy" / "redis" / name
        files[charts / "redis-cluster-dev" / "files" / name] = original.read_text(encoding="utf-8")
    return files


def main() -> None:
    parser = argparse.ArgumentParser(prog="charts.tools", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="only list the files that are not current"
    )
    check = parser.parse_args().check
    stale = [
        path
        for path, text in generated().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if check and stale:
        names = ", ".join(str(path.relative_to(CHARTS.parent)) for path in stale)
        sys.exit(f"charts.tools: not current: {names}; run make charts")
    for path, text in generated().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
