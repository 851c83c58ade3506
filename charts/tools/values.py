"""A chart's values, declared once: each has a default, a meaning and a schema, and out of them come
`values.yaml`, `values.schema.json` and the table in the chart's README."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from re import search
from textwrap import wrap
from typing import Any, Literal, TypeAlias

import yaml

Schema: TypeAlias = Mapping[str, Any]

#: Sent to the Kubernetes API as it is, which checks it; a copy of its schema here would only age.
ANY_OBJECT: Schema = {"type": "object"}
LIST_OF_OBJECTS: Schema = {"type": "array", "items": {"type": "object"}}
#: `--set key=123` and `--set key=true` are no strings, and often a text is meant.
TEXTS_BY_NAME: Schema = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}
QUANTITIES: Schema = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number"]},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value. `shown`: whether it stands in `values.yaml` and in the table."""

    help: str
    default: Any
    schema: Schema
    shown: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Values under one key."""

    help: str
    members: Mapping[str, Value | Group]


def group(help: str, **members: Value | Group) -> Group:
    return Group(help=help, members=members)


def value(default: Any, help: str, schema: Schema) -> Value:
    return Value(help=help, default=default, schema=schema)


def text(default: str, help: str, **limits: Any) -> Value:
    return value(default, help, text_schema(**limits))


def text_schema(*, pattern: str = "", **limits: Any) -> Schema:
    """Text, or a number where its digits are such a text: `--set key=123` gives a number."""
    kinds = [
        kind for kind, example in (("integer", "7"), ("number", "0.5")) if search(pattern, example)
    ]
    return {
        "type": ["string", *kinds[-1:]],
        **({"pattern": pattern} if pattern else {}),
        **limits,
    }


def flag(default: bool, help: str) -> Value:  # noqa: FBT001 - reads as text(), whole()
    return value(default, help, {"type": "boolean"})


def whole(default: int, help: str, *, least: int = 0) -> Value:
    return value(default, help, number_schema("integer", minimum=least))


def number_schema(
    kind: Literal["integer", "number"],
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    or_null: bool = False,
) -> Schema:
    """A number, or its digits as text: `--set key=0.5` gives text. A maximum does not apply to
    text; the service or Kubernetes checks it."""
    sign = "" if minimum is not None and minimum >= 0 else "-?"
    whole = "[1-9][0-9]*" if kind == "integer" and minimum == 1 else "(0|[1-9][0-9]*)"
    fraction = "" if kind == "integer" else "([.][0-9]+)?"
    return {
        "type": [kind, "string", *(["null"] if or_null else [])],
        "pattern": f"^{sign}{whole}{fraction}$",
        **({} if minimum is None else {"minimum": minimum}),
        **({} if maximum is None else {"maximum": maximum}),
    }


def choice(default: str, help: str, *choices: str) -> Value:
    return value(default, help, {"enum": list(choices)})


def objects(help: str, *defaults: Mapping[str, Any]) -> Value:
    return value([dict(each) for each in defaults], help, LIST_OF_OBJECTS)


def values_yaml(chart: str, values: Group) -> str:
    """The text of `values.yaml`."""
    head = (
        f"# The values of {chart}, with their defaults. Made by `make charts`; the declarations\n"
        "# are in charts/tools.\n"
        "# yaml-language-server: $schema=values.schema.json\n"
    )
    return head + "".join(_yaml_lines(values, indent=0))


def _yaml_lines(values: Group, *, indent: int) -> Iterator[str]:
    margin = " " * indent
    for name, member in values.members.items():
        if isinstance(member, Value) and not member.shown:
            continue
        if indent == 0:
            yield "\n"
        for line in wrap(member.help, width=100 - indent - 2):
            yield f"{margin}# {line}\n"
        if isinstance(member, Group):
            yield f"{margin}{name}:\n"
            yield from _yaml_lines(member, indent=indent + 2)
        else:
            yield from _assignment(name, member.default, margin)


def _assignment(name: str, default: Any, margin: str) -> Iterator[str]:
    if isinstance(default, dict | list) and default:
        yield f"{margin}{name}:\n"
        for line in yaml.safe_dump(default, sort_keys=False).splitlines():
            yield f"{margin}  {line}\n"
    else:
        yield f"{margin}{name}: {json.dumps(default, ensure_ascii=False)}\n"


def values_schema(chart: str, values: Group) -> str:
    """The text of `values.schema.json`: any key that is not declared is refused."""
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"Values of {chart}",
        **_schema(values),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _schema(values: Group) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {
                "description": member.help,
                **(_schema(member) if isinstance(member, Group) else member.schema),
            }
            for name, member in values.members.items()
        },
    }


def values_table(values: Group) -> str:
    """The rows of a Markdown table: every value with its path."""
    rows = [
        f"| `{path}` | `{json.dumps(each.default, ensure_ascii=False)}` | {each.help} |"
        for path, each in _flat(values, prefix="")
    ]
    return "\n".join(("| value | default | what |", "| --- | --- | --- |", *rows))


def _flat(values: Group, *, prefix: str) -> Iterator[tuple[str, Value]]:
    for name, member in values.members.items():
        if isinstance(member, Group):
            yield from _flat(member, prefix=f"{prefix}{name}.")
        elif member.shown:
            yield f"{prefix}{name}", member
