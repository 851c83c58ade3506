"""TLS and users: a producer and an aggregator that must show who they are over a secured port."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, cast

import pytest
import trustme
from redis import ConnectionError as RedisConnectionError
from redis import Redis

from hourglass.address import Tls
from hourglass.connecting import connect
from hourglass.errors import Unreachable, Unsuitable
from hourglassctl.formation import free_ports
from hourglassctl.redis_server import find_server
from tests.services import services
from tests.waiting import wait_until

PASSWORD = "p@ss/word:1"
QUOTED = "p%40ss%2Fword%3A1"


@dataclass(frozen=True, slots=True)
class Secured:
    """A cluster of one shard behind TLS, which asks for a client certificate."""

    port: int
    ca_file: str
    cert_file: str

    @property
    def url(self) -> str:
        return f"rediss://meter:{QUOTED}@localhost:{self.port}"

    @property
    def bare_url(self) -> str:
        """Without the credentials."""
        return f"rediss://localhost:{self.port}"

    @property
    def tls(self) -> Tls:
        return Tls(ca_file=self.ca_file, cert_file=self.cert_file, key_file=self.cert_file)

    def options(self) -> list[str]:
        return [
            "--redis-url", self.url, "--redis-ca-file", self.ca_file,
            "--redis-cert-file", self.cert_file, "--redis-key-file", self.cert_file,
        ]  # fmt: skip


def relay(incoming: socket.socket, outgoing: socket.socket) -> None:
    with suppress(OSError), incoming, outgoing:
        while data := incoming.recv(65_536):
            outgoing.sendall(data)


def terminate_tls(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """Not every redis-server is built with TLS, so the handshake is done in front of it."""
    while True:
        try:
            accepted, _ = listener.accept()
        except OSError:
            return
        try:
            client = context.wrap_socket(accepted, server_side=True)
        except (ssl.SSLError, OSError):
            accepted.close()
            continue
        server = socket.create_connection(("127.0.0.1", port))
        for pair in ((client, server), (server, client)):
            Thread(target=relay, args=pair, daemon=True).start()


@pytest.fixture
def secured(tmp_path: Path) -> Generator[Secured]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert("meter")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    listener = socket.create_server(("127.0.0.1", 0))
    secured_port = listener.getsockname()[1]
    (port, bus), *_ = free_ports(1)
    settings = tmp_path / "redis.conf"
    settings.write_text(
        f'port {port}\ncluster-port {bus}\nbind 127.0.0.1\nsave ""\ncluster-enabled yes\n'
        "cluster-announce-ip 127.0.0.1\ncluster-announce-hostname localhost\n"
        "cluster-preferred-endpoint-type hostname\n"
        f"cluster-announce-port {secured_port}\n"
        f"user default off\nuser meter on >{PASSWORD} ~* &* +@all\n"
    )
    server = subprocess.Popen(
        [str(find_server().binary), str(settings)], cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    Thread(target=terminate_tls, args=(listener, context, port), daemon=True).start()
    try:
        with closing(Redis(port=port, username="meter", password=PASSWORD)) as client:
            anything = cast(Any, client)
            wait_until(lambda: answers(anything), message="redis-server does not answer")
            anything.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            wait_until(lambda: anything.cluster("info")["cluster_state"] == "ok")
        yield Secured(secured_port, str(tmp_path / "ca.pem"), str(tmp_path / "client.pem"))
    finally:
        listener.close()
        server.kill()
        server.wait()


def answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except RedisConnectionError:
        return False


def test_services_work_over_tls_with_a_client_certificate_and_a_user(secured: Secured) -> None:
    with services(secured.url) as running:
        running.aggregator("aggregator", *secured.options())
        running.producer("producer", "--period-s", "0.01", *secured.options())
        running.await_ready("aggregator", "producer")
        wait_until(
            lambda: (running.metric("aggregator", "hourglass_readings_counted_total") or 0) > 100,
            message="nothing was counted",
        )
        for name in ("producer", "aggregator"):
            assert PASSWORD not in running.said(name)
            assert QUOTED not in running.said(name)


def test_the_password_may_come_from_the_environment_or_a_file(
    secured: Secured, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    files = ["--redis-ca-file", secured.ca_file, "--redis-cert-file", secured.cert_file,
             "--redis-key-file", secured.cert_file]  # fmt: skip
    from_a_file = ["--redis-password-file", str(tmp_path / "password")]
    for secret, options in (({"HOURGLASS_REDIS_PASSWORD": PASSWORD}, []), ({}, from_a_file)):
        shown = subprocess.run(
            [sys.executable, "-m", "hourglassctl", "clock", "show", *files, *options],
            env={
                **os.environ,
                "HOURGLASS_REDIS_URL": secured.bare_url,
                "HOURGLASS_REDIS_USERNAME": "meter",
                **secret,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert shown.returncode == 0, shown.stderr
        assert shown.stdout.startswith("pipeline clock ")


def test_a_server_that_the_authority_did_not_sign_is_not_trusted(
    secured: Secured, tmp_path: Path
) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with pytest.raises(Unreachable, match="certificate"):
        connect(secured.url, Tls(ca_file=str(tmp_path / "other.pem")))


def test_a_wrong_password_over_tls_is_refused_without_showing_it(secured: Secured) -> None:
    wrong = secured.url.replace(QUOTED, "wrong-secret")
    with pytest.raises(Unsuitable, match="user name and password") as refusal:
        connect(wrong, secured.tls)
    assert "wrong-secret" not in str(refusal.value)


def test_without_tls_a_secured_port_is_no_redis(secured: Secured) -> None:
    with pytest.raises(Unreachable, match="HOURGLASS_REDIS_URL"):
        connect(secured.url.replace("rediss://", "redis://"))
