"""Generates the tables of the docs from the declarations of options, commands and metrics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

import aggregator.metrics
import averages_consumer.metrics
import producer.metrics
from aggregator.config import AggregatorSettings
from averages_consumer.config import AveragesConsumerSettings
from hourglass.errors import Conflict
from hourglass.metrics import MetricSpec
from hourglass.service.cli import application, invoke
from hourglass.service.config import (
    RedisSettings,
    ServiceSettings,
    env_name,
    flag_of,
    option_fields,
)
from hourglassctl.__main__ import application as operators_command
from producer.config import ProducerSettings

SERVICES: dict[str, tuple[type, Sequence[MetricSpec]]] = {
    "producer": (ProducerSettings, producer.metrics.METRICS),
    "aggregator": (AggregatorSettings, aggregator.metrics.METRICS),
    "averages-consumer": (AveragesConsumerSettings, averages_consumer.metrics.METRICS),
}


def configuration_table() -> str:
    """The options: first those common to all services, then those of each service."""
    common = {field.name for field, _ in option_fields(ServiceSettings)}
    rows = _option_rows("all", ServiceSettings, ())
    for service, (settings, _) in SERVICES.items():
        rows += _option_rows(service, settings, common)
    return _table(("service", "environment variable (option)", "default", "what"), rows)


def _option_rows(service: str, settings: type, without: Iterable[str]) -> list[Sequence[str]]:
    return [
        (
            service,
            f"`{env_name(field.name)}`" + (f" (`{flag_of(field)}`)" if info.flag else ""),
            _default(field.default, info.unit),
            info.help,
        )
        for field, info in option_fields(settings)
        if field.name not in without
    ]


def _default(value: Any, unit: str) -> str:
    if value is MISSING or value in ("", None):
        return ""
    text = str(value.value if isinstance(value, Enum) else value)
    text = text.lower() if isinstance(value, bool) else text
    return f"`{text}`{' ' + unit if unit else ''}"


def commands_table() -> str:
    """Every subcommand of `hourglass`, without the Redis options, which most of them have."""
    common = {flag_of(field) for field, _ in option_fields(RedisSettings)} | {"--help"}
    rows = [
        (f"`{name}`", " ".join(command.help.split()), "<br>".join(_flags(command, common)))
        for name, command in _leaves("hourglass", typer.main.get_command(operators_command()))
    ]
    return _table(("command", "what it does", "options"), rows)


def _leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    for below, each in sorted(getattr(command, "commands", {}).items()):
        yield from _leaves(f"{name} {below}", each)
    if not hasattr(command, "commands"):
        yield name, command


def _flags(command: Any, without: Iterable[str]) -> Iterator[str]:
    for each in command.params:
        flag = each.opts[0]
        if flag not in without:
            yield (
                f"`{flag}`: {each.help}"
                if flag.startswith("-")
                else f"`{flag.upper()}`: {each.help}"
            )


def metrics_table() -> str:
    """Every metric, with the services that export it."""
    rows = [
        (
            f"`{each.name}`",
            each.kind,
            each.unit,
            ", ".join(f"`{label}`" for label in each.labels),
            ", ".join(services),
            each.across,
            each.help,
        )
        for each, services in sorted(exporters().items(), key=lambda pair: pair[0].name)
    ]
    head = ("metric", "type", "unit", "labels", "services", "over replicas", "what")
    return _table(head, rows)


def buckets_table() -> str:
    """The upper bounds of each histogram's buckets."""
    rows = [
        (f"`{each.name}`", each.unit, " ".join(f"{bound:g}" for bound in each.buckets))
        for each in sorted(exporters(), key=lambda each: each.name)
        if each.kind == "histogram"
    ]
    return _table(("histogram", "unit", "buckets up to"), rows)


def exporters() -> dict[MetricSpec, list[str]]:
    """Every metric with the services that export it."""
    services: dict[MetricSpec, list[str]] = {}
    for service, (_, instruments) in SERVICES.items():
        for instrument in instruments:
            services.setdefault(instrument, []).append(service)
    return services


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


TABLES = {
    "configuration": configuration_table,
    "commands": commands_table,
    "metrics": metrics_table,
    "buckets": buckets_table,
}


def rewritten(document: str) -> str:
    """`document` with new tables between each `<!-- NAME:begin -->` and `<!-- NAME:end -->`."""
    made = 0
    for name, table in TABLES.items():
        pattern = re.compile(f"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
        document, found = pattern.subn(lambda m, t=table: f"{m[1]}{t()}\n{m[2]}", document)
        made += found
    if not made:
        raise Conflict(f"the document has no markers of a table: add one of {', '.join(TABLES)}")
    return document


def reference(
    documents: list[Path],
    check: Annotated[
        bool, typer.Option("--check", help="Only check that they are current.")
    ] = False,
) -> None:
    """Write the tables into DOCUMENTS."""
    for document in documents:
        now = document.read_text(encoding="utf-8")
        made = rewritten(now)
        if check and made != now:
            raise Conflict(f"the tables in {document} are not current: run make docs")
        document.write_text(made, encoding="utf-8")


def main() -> None:
    app = application()
    app.command()(reference)
    invoke(app, "reference")


if __name__ == "__main__":
    main()
