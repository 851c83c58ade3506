"""What the documents name is there: files and their parts, pages, options, metrics, commands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hourglass.service.config import env_name, option_fields
from hourglassctl.__main__ import application
from tools.reference import SERVICES, exporters

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "tests" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in DOCUMENTS}

each_document = pytest.mark.parametrize("name", TEXTS)


def defined(path: Path) -> Iterator[str]:
    """The functions and classes of a file, those of a class as Class.name."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".lua":
        yield from re.findall(r"^(?:local )?function (\w+)", text, re.MULTILINE)
        return
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, ast.FunctionDef):
                    yield f"{node.name}.{each.name}"


@each_document
def test_every_file_that_is_named_is_there_and_has_what_is_named(name: str) -> None:
    named = re.findall(r"`((?:services|tests|charts|deploy)/[\w/.-]+)(?:::([\w.]+))?`", TEXTS[name])
    for path, inside in named:
        assert (ROOT / path).exists(), path
        if inside:
            assert inside in set(defined(ROOT / path)), f"{path}::{inside}"


def test_every_invariant_has_a_keeper_and_a_proof() -> None:
    _, _, table = TEXTS["docs/architecture.md"].partition("## The invariants")
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 15
    for what, kept_by, proven_by in rows:
        assert "services/" in kept_by, what
        assert "tests/" in proven_by, what


def test_every_promise_has_a_test_of_the_level_that_is_given() -> None:
    _, _, table = TEXTS["tests/README.md"].partition("## Promises")
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    assert len(rows) > 30
    for what, level, proven_by in rows[2:]:
        assert re.fullmatch(rf"`tests/{level}/[\w/]+\.py::test_\w+`", proven_by), what


@each_document
def test_every_link_leads_somewhere(name: str) -> None:
    here = (ROOT / name).parent
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", TEXTS[name]):
        assert (here / target).exists(), target
    for target, anchor in re.findall(r"\]\(([^)#:]*\.md)?#([\w-]+)\)", TEXTS[name]):
        text = (here / target).read_text(encoding="utf-8") if target else TEXTS[name]
        titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert anchor in anchors, f"{target}#{anchor}"


def test_the_readme_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(([^)#:]+)", TEXTS["README.md"]))
    assert {name for name in TEXTS if name.startswith("docs/")} <= linked


@each_document
def test_every_variable_and_metric_that_is_named_exists(name: str) -> None:
    options = {
        env_name(field.name)
        for settings, _ in SERVICES.values()
        for field, _ in option_fields(settings)
    }
    assert set(re.findall(r"\bHOURGLASS_[A-Z_]+\b", TEXTS[name])) <= options
    metrics = {each.name for each in exporters()}
    named = set(re.findall(r"`(hourglass_[a-z_]+)", TEXTS[name])) - {"hourglass_schema_version"}
    assert named <= metrics


@each_document
def test_every_command_that_is_named_exists(name: str) -> None:
    app = application()
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    commands = {command.name for command in app.registered_commands} | set(groups)
    for command, below in re.findall(r"[`$] ?hourglass ([a-z]+)(?: ([a-z]+))?", TEXTS[name]):
        assert command in commands, command
        if below and command in groups:
            instance = groups[command]
            assert instance is not None
            assert below in {each.name for each in instance.registered_commands}, below
