"""Options declared once: the command line, the environment, the help, and the refusals."""

from __future__ import annotations

import socket
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import typer

from aggregator.config import AggregatorSettings
from averages_consumer.config import AveragesConsumerSettings
from hourglass.errors import (
    ConfigurationError,
    Conflict,
    HourglassError,
    Unreachable,
    UnsupportedServer,
)
from hourglass.model.devices import device_names
from hourglass.model.keys import HOUR_MS, as_name
from hourglass.model.readings import Rules, decode
from hourglass.service.cli import add_command, application, invoke, version
from hourglass.service.config import (
    LogFormat,
    RedisSettings,
    ServiceSettings,
    env_name,
    flag_of,
    option,
    option_fields,
    secret,
)
from producer.config import ProducerSettings
from tests.support.pipeline import DAY

SERVICES = [ProducerSettings, AggregatorSettings, AveragesConsumerSettings]
UNITS = {"_s": "s", "_ms": "ms", "_f": "°F"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TeaSettings:
    brew_s: float = option(180.0, "How long to brew.", unit="s", minimum=0)
    cups: int = option(2, "Cups to fill.", minimum=1, maximum=12)
    sort: str = option("assam", "What to brew.")
    milk: str | None = option(None, "Milk, if any.")
    label: LogFormat = option(LogFormat.TEXT, "How to label it.")
    once: bool = option(False, "Stop after one pot.", env=False)
    safe: str = option("", "What opens the safe.", secret=True, flag=False)
    from_: str = option("", "Where it comes from.", env=False)


class Kitchen:
    """A program with one command, run in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.orders: list[TeaSettings] = []
        self.fails: BaseException | None = None

    def brew(self, settings: TeaSettings) -> None:
        """Make tea."""
        self.orders.append(settings)
        if self.fails is not None:
            raise self.fails

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        app = application()
        add_command(app, TeaSettings, self.brew)
        with pytest.raises(SystemExit) as stop:
            invoke(app, "tea", arguments)
        out, err = self._capsys.readouterr()
        return int(stop.value.code or 0), out, err

    def ordered(self, *arguments: str) -> TeaSettings:
        status, _, err = self.run(*arguments)
        assert (status, err) == (0, "")
        return self.orders[-1]


@pytest.fixture
def kitchen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Kitchen:
    monkeypatch.setenv("COLUMNS", "200")
    for each in fields(TeaSettings):
        monkeypatch.delenv(env_name(each.name), raising=False)
    return Kitchen(capsys)


def test_without_options_the_defaults_hold(kitchen: Kitchen) -> None:
    assert kitchen.ordered() == TeaSettings()


def test_an_option_is_named_after_its_field(kitchen: Kitchen) -> None:
    assert kitchen.ordered("--brew-s", "90", "--cups", "3", "--label", "json") == TeaSettings(
        brew_s=90.0, cups=3, label=LogFormat.JSON
    )


def test_an_environment_variable_has_the_options_name(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOURGLASS_BREW_S", "90.5")
    monkeypatch.setenv("HOURGLASS_MILK", "oat")

    assert kitchen.ordered() == TeaSettings(brew_s=90.5, milk="oat")


def test_a_value_of_the_environment_ends_before_its_newline(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOURGLASS_SORT", "ceylon\n")
    monkeypatch.setenv("HOURGLASS_SAFE", " s3same \r\n")
    monkeypatch.setenv("HOURGLASS_LABEL", "json")

    assert kitchen.ordered() == TeaSettings(sort="ceylon", safe=" s3same ", label=LogFormat.JSON)


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\nanother line\n"])
def test_a_secret_is_the_first_line_of_its_file(tmp_path: Path, ending: str) -> None:
    (tmp_path / "secret").write_bytes(f"s3same{ending}".encode())

    assert secret("", str(tmp_path / "secret"), "--safe-file") == "s3same"


def test_an_option_outdoes_the_environment(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOURGLASS_CUPS", "5")

    assert kitchen.ordered("--cups", "6").cups == 6


def test_an_empty_environment_variable_leaves_the_default(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOURGLASS_CUPS", "")

    assert kitchen.ordered().cups == 2


def test_an_option_may_have_no_environment_variable(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOURGLASS_ONCE", "1")

    assert not kitchen.ordered().once
    assert kitchen.ordered("--once").once
    assert "HOURGLASS_ONCE" not in kitchen.run("--help")[1]


def test_an_option_may_be_an_environment_variable_only(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOURGLASS_SAFE", "s3same")

    assert kitchen.ordered().safe == "s3same"
    assert kitchen.run("--safe", "s3same")[0] == 2
    assert "HOURGLASS_SAFE: What opens the safe." in kitchen.run("--help")[1]


def test_a_field_may_bear_a_name_that_python_keeps_for_itself(kitchen: Kitchen) -> None:
    assert kitchen.ordered("--from", "Darjeeling").from_ == "Darjeeling"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--cups", "0"], "--cups"),
        (["--cups", "13"], "--cups"),
        (["--cups", "many"], "--cups"),
        (["--cups", "1.5"], "--cups"),
        (["--brew-s", "-1"], "--brew-s"),
        (["--label", "xml"], "--label"),
        (["--sugar", "1"], "--sugar"),
        (["--cups"], "--cups"),
        (["green"], "green"),
    ],
)
def test_a_wrong_option_is_one_line_that_says_where_to_look(
    kitchen: Kitchen, arguments: list[str], named: str
) -> None:
    status, out, err = kitchen.run(*arguments)

    assert (status, out) == (2, "")
    assert err.startswith("tea: ")
    assert named in err
    assert err.endswith("See tea --help.\n")
    assert err.count("\n") == 1
    assert not kitchen.orders


def test_a_wrong_environment_variable_is_named(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOURGLASS_CUPS", "many")
    status, _, err = kitchen.run()

    assert status == 2
    assert "HOURGLASS_CUPS" in err


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(ConfigurationError, 2), (UnsupportedServer, 1), (Conflict, 1), (Unreachable, 1)],
)
def test_an_error_on_purpose_is_one_line_and_a_status(
    kitchen: Kitchen, kind: type[HourglassError], expected: int
) -> None:
    kitchen.fails = kind("the kettle is empty: fill it")
    status, out, err = kitchen.run()

    assert (status, out, err) == (expected, "", "tea: the kettle is empty: fill it\n")


def test_a_question_that_is_not_answered_ends_the_program(kitchen: Kitchen) -> None:
    kitchen.fails = typer.Abort()

    assert kitchen.run()[0] == 130


def test_the_commands_exit_status_is_the_programs(kitchen: Kitchen) -> None:
    kitchen.fails = SystemExit(3)

    assert kitchen.run()[0] == 3


def test_an_interruption_is_no_traceback(kitchen: Kitchen) -> None:
    kitchen.fails = KeyboardInterrupt()
    status, _, err = kitchen.run()

    assert (status, err) == (130, "")


def test_the_version_is_printed_and_nothing_is_run(kitchen: Kitchen) -> None:
    assert kitchen.run("--version") == (0, f"tea {version()}\n", "")
    assert kitchen.orders == []


def test_help_tells_of_each_option_its_variable_unit_and_default(kitchen: Kitchen) -> None:
    status, out, _ = kitchen.run("--help")
    helped = " ".join(out.split())

    assert status == 0
    assert "Make tea." in helped
    assert "--brew-s" in helped
    assert "How long to brew. Unit: s." in helped
    assert "env var: HOURGLASS_BREW_S" in helped
    assert "default: 180.0" in helped
    assert not kitchen.orders


@pytest.mark.parametrize("settings", SERVICES)
def test_every_option_of_a_service_is_explained(
    settings: type[ServiceSettings],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    app = application()
    add_command(app, settings, nothing)
    with pytest.raises(SystemExit):
        invoke(app, "service", ["--help"])
    helped = "".join(capsys.readouterr().out.split())  # names are broken at the end of a line

    for each, info in option_fields(settings):
        takes = "" if isinstance(each.default, bool) else "<"
        assert (f"{flag_of(each)}{takes}" in helped) == info.flag
        assert env_name(each.name) in helped
        assert "".join(info.help.split()) in helped
        if each.default not in (None, "") and not isinstance(each.default, bool):
            assert f"default:{shown(each.default)}" in helped


def nothing(settings: ServiceSettings) -> None:
    """Do nothing."""


def shown(default: Any) -> str:
    return "".join(str(default).split())


@pytest.mark.parametrize("settings", SERVICES)
def test_every_option_has_the_unit_its_name_ends_with(settings: type[ServiceSettings]) -> None:
    for each, info in option_fields(settings):
        units = [unit for ending, unit in UNITS.items() if each.name.endswith(ending)]
        assert units in ([], [info.unit]), each.name


@pytest.mark.parametrize("settings", SERVICES)
def test_every_default_is_within_its_own_bounds(settings: type[ServiceSettings]) -> None:
    for each, info in option_fields(settings):
        if isinstance(each.default, int | float):
            assert info.minimum is None or info.minimum <= each.default, each.name
            assert info.maximum is None or each.default <= info.maximum, each.name


@pytest.mark.parametrize("settings", SERVICES)
def test_what_may_hold_a_password_is_secret(settings: type[ServiceSettings]) -> None:
    for each, info in option_fields(settings):
        assert info.secret == each.name.endswith(("_url", "_password")), each.name


def test_a_password_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    settings = RedisSettings(redis_password_file=str(tmp_path / "missing"))

    with pytest.raises(ConfigurationError, match=r"missing cannot be read .*--redis-password-file"):
        settings.connect()


@pytest.mark.parametrize("settings", [RedisSettings, *SERVICES])
@pytest.mark.parametrize("given_by", ["option", "environment"])
def test_a_name_that_no_pipeline_can_have_is_refused_before_anything_is_done(
    settings: type[RedisSettings],
    given_by: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = application()
    begun: list[RedisSettings] = []
    add_command(app, settings, begun.append)
    monkeypatch.setenv("HOURGLASS_PIPELINE", "weather:1" if given_by == "environment" else "temps")

    with pytest.raises(SystemExit) as stop:
        invoke(app, "service", ["--pipeline", "weather:1"] if given_by == "option" else [])

    assert (stop.value.code, begun) == (2, [])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("service: 'weather:1' cannot be a pipeline's name: give 1 to 64 letters")


LONGEST = "a" * 64


@pytest.mark.parametrize("settings", SERVICES)
@pytest.mark.parametrize("name", [":a", "a" * 65, "a" * 130, "a:b", "a b", "{a}", "käse", "a\nb"])
def test_a_name_that_no_process_can_have_is_refused(
    settings: type[ServiceSettings], name: str
) -> None:
    with pytest.raises(ConfigurationError, match="set HOURGLASS_NAME") as refused:
        settings(name=name)
    assert repr(name) in str(refused.value)


@pytest.mark.parametrize("settings", SERVICES)
@pytest.mark.parametrize("name", ["", "aggregator-0", "a.b_c-1", LONGEST])
def test_a_name_within_the_rules_is_taken_as_it_is(
    settings: type[ServiceSettings], name: str
) -> None:
    assert settings(name=name).process_name == (name or as_name(socket.gethostname()))


def test_devices_may_be_called_after_the_longest_name() -> None:
    noon_ms = DAY.day_ms + HOUR_MS
    for device in (device_names(LONGEST, 1)[0], f"{LONGEST}-9999999"):
        fields = [b"device", device.encode(), b"temp_f", b"50"]
        reading = decode(DAY, b"%d-0" % noon_ms, fields, Rules())
        assert reading.device == device.encode()


@pytest.mark.parametrize(
    ("host", "name"),
    [("pod-0", "pod-0"), ("my host:1", "my-host-1"), ("h" * 70, "h" * 64), ("", "-")],
)
def test_a_host_that_is_no_name_gives_the_nearest_one(host: str, name: str) -> None:
    assert as_name(host) == name
