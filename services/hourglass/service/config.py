"""Declares options. One field of a settings class defines an option, its environment variable,
default and help text, and its row of the configuration table."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import Enum, StrEnum
from inspect import Parameter, Signature
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_type_hints

import typer

from hourglass.cluster.client import Cluster
from hourglass.cluster.client_metrics import ClientMetrics
from hourglass.cluster.connect import connect
from hourglass.cluster.url import Tls
from hourglass.errors import ConfigurationError, HourglassError
from hourglass.model.keys import PIPELINE, Keyspace, as_name, is_name
from hourglass.service.build import version
from hourglass.service.output import OutputFailed, give_up_output, set_up_output

ENV_PREFIX = "HOURGLASS_"


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionInfo:
    """The metadata of an option, besides its type and default."""

    help: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    secret: bool = False
    env: bool = True
    flag: bool = True
    positional: bool = False


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    secret: bool = False,
    env: bool = True,
    flag: bool = True,
    positional: bool = False,
) -> Any:
    """Declare a settings field.

    unit: shown with the default
    secret: no message shows the value; a password in it is rejected on the command line
    env: whether the environment variable of the option's name sets it
    flag: whether a command-line option sets it
    positional: whether it is a positional argument
    """
    info = OptionInfo(
        help=help,
        unit=unit,
        minimum=minimum,
        maximum=maximum,
        secret=secret,
        env=env,
        flag=flag,
        positional=positional,
    )
    return field(default=default, metadata={"option": info})


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """The options to connect to the cluster; every command has them."""

    redis_url: str = option(
        "redis://127.0.0.1:6379",
        "The Redis Cluster: redis://[user:password@]host:port[,host:port…], or rediss:// for TLS.",
        secret=True,
    )
    redis_username: str = option("", "User name, used if the URL has none.")
    redis_password: str = option(
        "", "Password, used if the URL has none; only as environment variable.",
        secret=True, flag=False,
    )  # fmt: skip
    redis_password_file: str | None = option(None, "File with the password in its first line.")
    redis_ca_file: str | None = option(None, "File with the CA certificates to trust (PEM).")
    redis_cert_file: str | None = option(None, "File with the client certificate (PEM).")
    redis_key_file: str | None = option(None, "File with the client certificate's key (PEM).")
    pipeline: str = option(
        PIPELINE,
        "Name of the pipeline and prefix of its keys: at most 64 letters, digits, -, _ and '.'. "
        "All services of a pipeline use the same name; several pipelines may share a cluster.",
    )

    def __post_init__(self) -> None:
        """Raises ConfigurationError for an invalid pipeline name."""
        Keyspace(self.pipeline)

    def connect(self, traffic: ClientMetrics | None = None) -> Cluster:
        """Connect to the cluster. Raises ConfigurationError, Unreachable, UnsupportedServer."""
        return connect(
            self.redis_url,
            Tls(
                ca_file=self.redis_ca_file,
                cert_file=self.redis_cert_file,
                key_file=self.redis_key_file,
            ),
            keyspace=Keyspace(self.pipeline),
            username=self.redis_username,
            password=self._password(),
            credentials_from="HOURGLASS_REDIS_PASSWORD"
            if self.redis_password_file is None
            else f"the file {self.redis_password_file}",
            traffic=traffic,
        )

    def _password(self) -> str:
        return secret(self.redis_password, self.redis_password_file, "--redis-password-file")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings(RedisSettings):
    """The additional options of every service."""

    name: str = option(
        "",
        "Unique name of this process among its replicas: at most 64 letters, digits, -, _ and "
        "'.'; empty takes the name of the host (or pod).",
    )
    connect_within_s: float = option(
        10.0, "Maximum wait for Redis at start-up; then exit.", unit="s", minimum=0
    )
    allow_eviction: bool = option(
        False,
        "Start even if Redis may evict readings (a maxmemory-policy other than noeviction).",
    )
    http_host: str = option(
        "",
        "Listen address of /livez, /readyz and /metrics; empty is every address, IPv4 and IPv6.",
    )
    http_port: int = option(
        8080,
        "Port of /livez, /readyz and /metrics; 0 takes a free one.",
        minimum=0,
        maximum=65535,
    )
    log_format: LogFormat = option(LogFormat.TEXT, "Log lines as text or as JSON.")
    log_level: str = option("info", "Minimum severity of log lines: debug, info, warning, error.")

    def __post_init__(self) -> None:
        """Raises ConfigurationError for an invalid process name. Names of devices and consumers
        contain it, and Redis keys contain it between colons."""
        RedisSettings.__post_init__(self)
        if self.name and not is_name(self.name):
            raise ConfigurationError(
                f"{self.name!r} is not a valid process name: set HOURGLASS_NAME to 1 to 64 "
                'letters, digits, "-", "_" or "."'
            )

    @property
    def process_name(self) -> str:
        """The name; by default the host name, with invalid characters replaced."""
        return self.name or as_name(socket.gethostname())


def secret(value: str, file: str | None, option: str) -> str:
    """The first line of `file`, or `value` if `file` is None.

    option: the name of the file's option, for error messages

    Raises ConfigurationError.
    """
    if file is None:
        return value
    try:
        return Path(file).read_text(encoding="utf-8").partition("\n")[0].removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(
            f"the secret in {file} cannot be read ({reason}): check {option}"
        ) from None


def holds_a_password(url: str) -> bool:
    credentials, _, _ = url.partition("://")[2].rpartition("@")
    return bool(credentials.partition(":")[2]) or "password=" in url


Settings = TypeVar("Settings")


def option_fields(settings: type) -> list[tuple[Field[Any], OptionInfo]]:
    """The options of a settings class, in order of declaration."""
    return [(each, each.metadata["option"]) for each in fields(settings)]


def flag_of(each: Field[Any]) -> str:
    """The option's name; with its negation if it is on by default: `--web/--no-web`."""
    name = each.name.strip("_").replace("_", "-")
    return f"--{name}/--no-{name}" if each.default is True else f"--{name}"


def env_name(name: str) -> str:
    return ENV_PREFIX + name.strip("_").upper()


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
