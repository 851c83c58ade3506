"""Command lines: applications, their commands, standard output, and the exit status."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING
from enum import Enum
from importlib import metadata
from inspect import Parameter, Signature
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_type_hints

import typer

from hourglass.errors import ConfigurationError, HourglassError
from hourglass.service.config import env_name, flag_of, holds_a_password, option_fields


def version() -> str:
    """The version: HOURGLASS_VERSION, which an image sets, or else the package's metadata."""
    if given := os.environ.get("HOURGLASS_VERSION"):
        return given
    try:
        return metadata.version("hourglass")
    except metadata.PackageNotFoundError:
        return "unknown"


#: Replacements of characters that the output's encoding lacks; others become a question mark.
_PLAINER = {"█": "#", "▒": "+", "·": ".", "°": "", "…": "...", "→": "->"}

#: The exit status that a shell reports for a program killed by SIGPIPE.
_READER_GONE = 128 + 13


class OutputFailed(HourglassError):
    """Standard output cannot be written."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output cannot be written: {error.strerror}")
        self.reader_gone = error.errno == errno.EPIPE
        if self.reader_gone:
            self.exit_code = _READER_GONE


class _Descriptor(io.FileIO):
    """Raises OutputFailed, to distinguish errors of standard output from those of other files."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except BlockingIOError:
            raise
        except OSError as error:
            raise OutputFailed(error) from error


def _plainer(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return "".join(_PLAINER.get(each, "?") for each in wrong), error.end


def set_up_output() -> None:
    """Make standard output raise OutputFailed and replace characters that its encoding lacks. Call
    it once per process. An output that a test has replaced does not change."""
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]  # it was closed
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    before = sys.stdout
    if before is not sys.__stdout__ or not isinstance(before, io.TextIOWrapper):
        return
    before.flush()
    codecs.register_error("plainer", _plainer)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(before.fileno(), "wb", closefd=False)),
        encoding=before.encoding,
        errors="plainer",
        line_buffering=before.line_buffering or before.write_through,
    )


def give_up_output() -> None:
    """Discard what is not written yet; Python would otherwise try to flush it at exit."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


Settings = TypeVar("Settings")


def application(about: str | None = None, *, commands: bool = False) -> typer.Typer:
    """An empty application. With `commands` it shows its help if no command is given.

    Typer's tracebacks are off, because they show the values of variables, including passwords.
    """
    return typer.Typer(
        help=about,
        no_args_is_help=commands,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
    )


def _print_version(context: typer.Context, given: object) -> None:
    if given:
        print(context.info_name, version())
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option(
        "--version",
        callback=_print_version,
        is_eager=True,
        help="Show the version and exit.",
    ),
]


def add_command(
    app: typer.Typer, settings: type[Settings], run: Callable[[Settings], None], **command: Any
) -> None:
    """Add a command to `app` whose options are the fields of `settings`."""
    hints = get_type_hints(settings)
    parameters = [Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    if "name" not in command:  # a single command; with several, --version belongs to the program
        parameters.append(
            Parameter("version", Parameter.KEYWORD_ONLY, default=False, annotation=VersionOption)
        )
    unflagged: dict[str, str] = {}
    for each, info in option_fields(settings):
        if not info.flag:
            unflagged[each.name] = info.help
            continue
        if info.positional:
            parameters.append(
                Parameter(
                    each.name,
                    Parameter.KEYWORD_ONLY,
                    default=each.default,
                    annotation=Annotated[hints[each.name], typer.Argument(help=info.help)],
                )
            )
            continue
        annotation = Annotated[
            hints[each.name],
            typer.Option(
                flag_of(each),
                envvar=env_name(each.name) if info.env else None,
                help=f"{info.help} Unit: {info.unit}." if info.unit else info.help,
                min=info.minimum,
                max=info.maximum,
            ),
        ]
        default = Parameter.empty if each.default is MISSING else each.default
        parameters.append(
            Parameter(each.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        )

    def entry(context: typer.Context, **values: Any) -> None:
        values.pop("version", None)  # handled by its callback
        values = {name: _without_newline(value) for name, value in values.items()}
        for each, info in option_fields(settings):
            given = values.get(each.name)
            if isinstance(given, float) and not isfinite(given):
                raise ConfigurationError(f"{flag_of(each)} is {given}: give a number")
            if info.secret and info.flag and holds_a_password(values[each.name]):
                source = context.get_parameter_source(each.name)
                if source is not None and source.name == "COMMANDLINE":
                    raise ConfigurationError(
                        f"{flag_of(each)} contains a password, which every user who lists the "
                        f"processes can read: set the URL in {env_name(each.name)}"
                    )
        present = {
            name: _without_newline(os.environ[env_name(name)])
            for name in unflagged
            if env_name(name) in os.environ
        }
        run(settings(**values, **present))

    entry.__doc__ = run.__doc__
    entry.__annotations__ = {each.name: each.annotation for each in parameters}
    cast(Any, entry).__signature__ = Signature(parameters)
    variables = "  ".join(f"{env_name(name)}: {about}" for name, about in unflagged.items())
    epilog = f"Environment variables: {variables}" if variables else None
    app.command(epilog=epilog, **command)(entry)


def _without_newline(value: Any) -> Any:
    """Secrets made from a file or with echo often end with a newline, which is not part of them."""
    is_text = isinstance(value, str) and not isinstance(value, Enum)
    return value.rstrip("\r\n") if is_text else value


def invoke(app: typer.Typer, program: str, arguments: Sequence[str] | None = None) -> None:
    """Run `app` and exit. A HourglassError prints one line on standard error. A closed pipe at
    standard output prints nothing."""
    set_up_output()
    try:
        status = _run(app, program, arguments)
        sys.stdout.flush()
    except OutputFailed as error:
        give_up_output()
        if not error.reader_gone:
            print(f"{program}: {error}", file=sys.stderr)
        status = error.exit_code
    sys.exit(status)


def _run(app: typer.Typer, program: str, arguments: Sequence[str] | None) -> int | str | None:
    """The exit status. Raises OutputFailed."""
    try:
        return app(args=arguments, prog_name=program, standalone_mode=False)
    except SystemExit as end:
        return end.code
    except OutputFailed:
        raise
    except HourglassError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except typer.TyperException as error:
        message = error.format_message()
        if message.startswith("Usage:"):  # no command was given: the message is the help
            print(message)
        else:
            line = f"{message.rstrip('.')}. See {program} --help."
            print(f"{program}: {line}", file=sys.stderr)
        return 2


def printable(text: bytes) -> str:
    """The text with each non-printable character replaced by a question mark."""
    characters = text.decode(errors="backslashreplace")
    return "".join(each if each.isprintable() else "?" for each in characters)
