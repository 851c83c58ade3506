"""Declares options. One field of a settings class defines an option, its environment variable,
default and help text, and its row of the configuration table."""

from __future__ import annotations

import socket
from dataclasses import Field, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from hourglass.cluster.client import Cluster
from hourglass.cluster.client_metrics import ClientMetrics
from hourglass.cluster.connect import connect
from hourglass.cluster.seed import Tls
from hourglass.errors import ConfigurationError
from hourglass.model.keys import PIPELINE, Keyspace, as_name, is_name

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


def claim_idle_option() -> Any:
    """The option of every service that claims pending entries."""
    return option(
        30_000,
        "Idle time after which another consumer may claim a pending entry.",
        unit="ms",
        minimum=100,
    )


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


def option_fields(settings: type) -> list[tuple[Field[Any], OptionInfo]]:
    """The options of a settings class, in order of declaration."""
    return [(each, each.metadata["option"]) for each in fields(settings)]


def flag_of(each: Field[Any]) -> str:
    """The option's name; with its negation if it is on by default: `--web/--no-web`."""
    name = each.name.strip("_").replace("_", "-")
    return f"--{name}/--no-{name}" if each.default is True else f"--{name}"


def env_name(name: str) -> str:
    return ENV_PREFIX + name.strip("_").upper()
