"""The scripts and the library spell the same fields of the hour records."""

from __future__ import annotations

import re
from pathlib import Path

from hourglass.model.hour_records import ACKNOWLEDGED, REPORTED, SEALING, STATE

SERVICES = Path(__file__).parents[2] / "services"
SCRIPTS = {
    path.stem: re.sub("--.*", "", path.read_text(encoding="utf-8"))
    for path in SERVICES.glob("*/scripts/*.lua")
}
OF_AN_HOUR = re.compile(r"\bh \.\. '(\w+)'")


def test_the_scripts_use_every_declared_field_of_an_hour_and_no_other() -> None:
    used = {name for text in SCRIPTS.values() for name in OF_AN_HOUR.findall(text)}
    assert used == {*REPORTED, *SEALING}


def test_the_scripts_use_every_declared_field_of_a_partition_and_no_other() -> None:
    used = {
        name
        for text in SCRIPTS.values()
        for call in re.findall(r"redis\.call\('H\w+', hours,(.*)", text)
        for name in re.findall(r"(?<!h \.\. )'([a-z_]+)'", call)
    }
    assert used == {*ACKNOWLEDGED, *STATE}


def test_the_seal_script_reports_the_fields_in_the_declared_order() -> None:
    report = re.compile(r"local record = redis\.call\('HMGET', hours,(.*?)\)", re.DOTALL)
    (read,) = report.findall(SCRIPTS["seal"])
    assert tuple(OF_AN_HOUR.findall(read)) == REPORTED
