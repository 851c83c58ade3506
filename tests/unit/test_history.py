"""Files of temperatures: what is read from them, and which rows are bad."""

from __future__ import annotations

import gzip
import sys
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from hourglass.errors import ConfigurationError
from hourglass.model.keys import DAY_MS
from hourglass.model.readings import Reading
from hourglassctl.history import Day, days, rows, summary
from hourglassctl.history_values import BadRow, Fold, Form, Row, Unit


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def read(tmp_path: Path, text: str, **form: object) -> list[Reading | BadRow]:
    path = tmp_path / "history.csv"
    path.write_text(text, encoding="utf-8")
    found = rows(path, Form(**form))  # pyright: ignore[reportArgumentType]
    return [each.reading if isinstance(each, Row) else each for each in found]


#: In the form of NOAA's hourly files: tenths of a degree Celsius, a comma, and a quality code.
NOAA = """\
"STATION","DATE","SOURCE","NAME","TMP","DEW"
"72793024233","2024-01-01T00:53:00","7","SEATTLE TACOMA AIRPORT, WA US","+0056,5","+0033,5"
"72793024233","2024-01-01T01:53:00","7","SEATTLE TACOMA AIRPORT, WA US","-0011,1","+0033,5"
"72793024233","2024-01-01T02:53:00","7","SEATTLE TACOMA AIRPORT, WA US","+9999,9","+0033,5"
"72793024233","2024-01-01T03:53:00","7","SEATTLE TACOMA AIRPORT, WA US","+0400,3","+0033,5"
"""


def test_noaa_hourly_csv_is_recognised_and_bad_quality_is_left_out(tmp_path: Path) -> None:
    assert read(tmp_path, NOAA) == [
        Reading(b"72793024233", ms("2024-01-01T00:53:00+00:00"), 42_080),
        Reading(b"72793024233", ms("2024-01-01T01:53:00+00:00"), 30_020),
    ]


ZIGBEE = """\
[2024-03-01 08:30:00] info: \tz2m:mqtt: MQTT publish: topic 'zigbee2mqtt/attic', \
payload '{"battery":97,"humidity":45.2,"temperature":21.5}'
[2024-03-01 08:30:01] info: \tz2m: Zigbee2MQTT started!
[2024-03-01 08:30:02] info: \tz2m:mqtt: MQTT publish: topic 'zigbee2mqtt/lamp', \
payload '{"state":"ON"}'
[2024-03-01 08:30:03] info: \tz2m:mqtt: MQTT publish: topic 'zigbee2mqtt/attic', \
payload '{"temperature":null}'
[2024-03-01 08:30:04] info: \tz2m:mqtt: MQTT publish: topic 'zigbee2mqtt/attic', payload '{broken}'
"""


def test_a_log_of_zigbee2mqtt_gives_the_temperatures_that_it_published(tmp_path: Path) -> None:
    found = read(tmp_path, ZIGBEE, timezone="Europe/Berlin")

    assert found == [
        Reading(b"attic", ms("2024-03-01T08:30:00+01:00"), 70_700),
        BadRow(5, "the payload is no JSON", "2024-03-01 08:30:04", "", "zigbee2mqtt/attic"),
    ]


COMMAS = "Datum;Temperatur (°C)\r\n01.03.2024 08:30;21,5\r\n01.03.2024 09:30;-1.021,25\r\n"


def test_an_export_with_decimal_commas_is_read(tmp_path: Path) -> None:
    found = read(tmp_path, COMMAS, decimal_comma=True, name="porch")

    assert found == [
        Reading(b"porch", ms("2024-03-01T08:30:00+00:00"), 70_700),
        BadRow(3, "the temperature is out of range", "01.03.2024 09:30", "-1.021,25", "porch"),
    ]


@pytest.mark.parametrize(
    ("unit", "text", "milli_f"), [("F", "73", 73_000), ("C", "-40", -40_000), ("K", "300", 80_330)]
)
def test_the_unit_is_an_option_or_in_the_name_of_the_column(
    tmp_path: Path, unit: str, text: str, milli_f: int
) -> None:
    row = f"2024-03-01T08:00Z,{text}\n"
    expected = [Reading(b"file", ms("2024-03-01T08:00:00+00:00"), milli_f)]

    assert read(tmp_path, "time,temp\n" + row, unit=Unit(unit)) == expected
    assert read(tmp_path, f"time,temp_{unit.lower()}\n" + row) == expected
    assert read(tmp_path, f"time,temp [{unit}]\n" + row) == expected
    with pytest.raises(ConfigurationError, match="give --unit"):
        read(tmp_path, "time,temp\n" + row)


@pytest.mark.parametrize(
    "text",
    ["2024-03-01 08:00:00", "2024/03/01 08:00", "01.03.2024 08:00", "1709280000", "1709280000000",
     "2024-03-01T09:00:00+01:00"],
)  # fmt: skip
def test_usual_times_are_recognised(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, f"time,temp_f\n{text},50\n") == [Reading(b"file", 1709280000000, 50_000)]


def test_another_time_has_a_format(tmp_path: Path) -> None:
    text = "time,temp_f\n3/1/2024 8:00 AM,50\n"

    (bad,) = read(tmp_path, text)
    assert isinstance(bad, BadRow)
    assert (bad.line, bad.reason) == (2, "the time is not understood: give --time-format")
    assert read(tmp_path, text, time_format="%m/%d/%Y %I:%M %p") == [
        Reading(b"file", 1709280000000, 50_000)
    ]


LOCAL = "time,temp_f\n2024-10-27 02:30,50\n2024-10-27 03:30,51\n2024-03-31 02:30,52\n"


def test_a_local_time_that_occurs_twice_is_refused_or_the_first(tmp_path: Path) -> None:
    refused = read(tmp_path, LOCAL, timezone="Europe/Berlin")
    first = read(tmp_path, LOCAL, timezone="Europe/Berlin", fold=Fold.FIRST)

    gap = BadRow(4, "the time does not exist in Europe/Berlin", "2024-03-31 02:30", "52", "file")
    later = Reading(b"file", ms("2024-10-27T03:30:00+01:00"), 51_000)
    twice = "the time is there twice in Europe/Berlin"
    assert refused == [BadRow(2, twice, "2024-10-27 02:30", "50", "file"), later, gap]
    assert first == [Reading(b"file", ms("2024-10-27T02:30:00+02:00"), 50_000), later, gap]


def test_missing_values_and_rows_of_bad_quality_are_left_out(tmp_path: Path) -> None:
    text = "time,temp_f,flag\n" + "".join(
        f"2024-03-01 08:0{minute},{value},{flag}\n"
        for minute, (value, flag) in enumerate(
            [("50", "ok"), ("", "ok"), ("NaN", "ok"), ("-77", "ok"), ("51", "bad"), ("52", "good")]
        )
    )

    found = read(tmp_path, text, missing="-77,-88", quality="flag=ok,good")

    assert [each.milli_f for each in found if isinstance(each, Reading)] == [50_000, 52_000]
    assert len(found) == 2


def test_bad_rows_have_their_line_numbers_and_reasons(tmp_path: Path) -> None:
    text = "time,temp_f\nyesterday,50\n2024-03-01 08:00,warm\n2024-03-01 08:00,inf\n"

    found = [each for each in read(tmp_path, text) if isinstance(each, BadRow)]

    assert [each.line for each in found] == [2, 3, 4]
    assert found[1].reason == "the temperature is no number"


def test_columns_are_named_or_recognised(tmp_path: Path) -> None:
    text = "when,room,warm\n2024-03-01 08:00,attic,50\n"

    with pytest.raises(ConfigurationError, match="recognised as time"):
        read(tmp_path, text)
    with pytest.raises(ConfigurationError, match="no column 'hot'"):
        read(tmp_path, text, time="when", temperature="hot")
    assert read(tmp_path, text, time="when", temperature="warm", device="room", unit=Unit.F) == [
        Reading(b"attic", 1709280000000, 50_000)
    ]


def test_a_compressed_file_is_read_and_a_broken_one_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "history.csv.gz"
    whole = gzip.compress(b"time,temp_f\n2024-03-01 08:00,50\n")
    path.write_bytes(whole)
    assert list(rows(path, Form())) == [Row(2, Reading(b"file", 1709280000000, 50_000))]

    path.write_bytes(whole[:-9])
    with pytest.raises(ConfigurationError, match="cannot read"):
        list(rows(path, Form()))
    with pytest.raises(ConfigurationError, match="No such file"):
        list(rows(tmp_path / "none.csv", Form()))


def test_parquet_is_read_where_pyarrow_is_installed(tmp_path: Path) -> None:
    arrow: Any = import_module("pyarrow")
    path = tmp_path / "history.parquet"
    times = [datetime.fromisoformat("2024-03-01T08:00:00+00:00"), None]
    table = arrow.table({"time": times, "temp_c": [10.0, 11.0]})
    import_module("pyarrow.parquet").write_table(table, path)

    good, bad = rows(path, Form())

    assert good == Row(1, Reading(b"file", 1709280000000, 50_000))
    assert isinstance(bad, BadRow)


def test_parquet_without_pyarrow_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(ConfigurationError, match=r"pip install \"hourglass\[parquet\]\""):
        list(rows(tmp_path / "history.parquet", Form()))


def row(line: int, day: int, ms_of_day: int = 0) -> Row:
    return Row(line, Reading(b"d", day * DAY_MS + ms_of_day, 50_000))


def test_a_day_is_in_order_though_the_file_is_not() -> None:
    found = list(days(iter([row(2, 1, 5), row(3, 2, 7), row(4, 1, 3), row(5, 2, 1)]), DAY_MS))

    assert [each.start_ms for each in found] == [DAY_MS, 2 * DAY_MS]
    assert [[one.ts_ms % DAY_MS for one in each.readings] for each in found] == [[3, 5], [1, 7]]


def test_a_day_is_released_when_the_file_is_two_days_on_and_later_rows_are_bad() -> None:
    def source() -> list[Row]:
        return [row(2, 1), row(3, 2), row(4, 3), row(5, 1, 9), row(6, 4)]

    first, *rest = list(days(iter(source()), DAY_MS))

    assert [len(first.readings), *(len(each.readings) for each in rest)] == [1, 1, 1, 1]
    bad = [one for each in (first, *rest) for one in each.bad]
    assert [(one.line, one.reason) for one in bad] == [
        (5, "more than a day out of order: sort the file")
    ]


def test_a_file_of_bad_rows_alone_reports_them() -> None:
    bad = BadRow(2, "reason", "", "", "")

    assert list(days(iter([bad]), DAY_MS)) == [Day(0, [], [bad])]


def test_the_summary_gives_the_first_lines_of_each_reason() -> None:
    assert summary({"cold": [2, 3, 4, 5, 6, 7], "hot": [9]}) == (
        "  6 rows: cold (line 2, 3, 4, 5, 6, ...)\n  1 rows: hot (line 9)"
    )
