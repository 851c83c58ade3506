"""TLS: a cluster that speaks nothing else, and asks its clients for a certificate."""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from contextlib import closing
from datetime import timedelta

import pytest
from redis.connection import SSLConnection

from hourglass.cluster.connect import connect
from hourglass.cluster.seed import Tls
from tests.support.commands import run_hourglass
from tests.support.keyspace import KEYS
from tests.support.services import services
from tests.support.tls_cluster import Authority, NoTls, TlsCluster, tls_cluster
from tests.support.users import PASSWORD
from tests.support.waiting import wait_until

pytestmark = pytest.mark.extended

LOADED = "hourglass_averages_loaded_total"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Generator[TlsCluster]:
    try:
        with tls_cluster(tmp_path_factory.mktemp("tls") / "authority") as cluster:
            yield cluster
    except NoTls as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that the cluster does not know."""
    return Authority(tmp_path_factory.mktemp("tls") / "stranger")


def one_line(*command: str, **environment: str) -> tuple[int, str]:
    """Exit code of the operator's command, and the one line it says."""
    ended = run_hourglass(*command, **environment)
    (line,) = (ended.stdout + ended.stderr).splitlines()
    return ended.returncode, line


def clock(cluster: TlsCluster, **environment: str) -> tuple[int, str]:
    return one_line("clock", "show", **{**cluster.environment, **environment})


@pytest.fixture(params=["certificate", "certificate, user and password", "user and password"])
def credentials(request: pytest.FixtureRequest, cluster: TlsCluster) -> Generator[dict[str, str]]:
    """What a client shows, and nodes that ask for it and, without a certificate, for no less."""
    if request.param == "certificate":
        yield {}
        return
    secret = {"HOURGLASS_REDIS_USERNAME": "meter", "HOURGLASS_REDIS_PASSWORD": PASSWORD}
    with cluster.nodes() as nodes:
        for node in nodes:
            node.execute_command(
                "ACL SETUSER", "meter", "on", f">{PASSWORD}", "~*", "+@all", "-@admin"
            )
        if request.param == "certificate, user and password":
            yield secret
            return
        for node in nodes:
            node.config_set("tls-auth-clients", "no")
            # Whoever is nobody in particular may do nothing; but the administrator is, here.
            node.execute_command("ACL SETUSER", "default", "resetkeys")
        yield {**secret, "HOURGLASS_REDIS_CERT_FILE": "", "HOURGLASS_REDIS_KEY_FILE": ""}
        for node in nodes:
            node.execute_command("ACL SETUSER", "default", "allkeys")
            node.config_set("tls-auth-clients", "yes")


def test_the_pipeline_works_over_tls_on_every_shard(
    cluster: TlsCluster, credentials: dict[str, str]
) -> None:
    environment = {**cluster.environment, **credentials}
    with services(cluster.url, **environment) as running:
        code, line = one_line(
            "replay", "--days", "4", "--period-s", "600", "--reset", **environment
        )
        assert code == 0, line
        running.aggregator()
        running.start("consumer", "averages_consumer")
        wait_until(
            lambda: running.metric("consumer", LOADED) == 4 * 24, message="hours are missing"
        )
    with cluster.nodes() as nodes:
        assert min(node.dbsize() for node in nodes) > 0


def test_session_tickets_are_not_taken_for_a_broken_connection(
    cluster: TlsCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    shake_hands = SSLConnection.connect

    def until_the_tickets_are_there(connection: SSLConnection) -> None:
        known = connection.is_connected
        shake_hands(connection)
        if not known:
            time.sleep(0.05)

    monkeypatch.setattr(SSLConnection, "connect", until_the_tickets_are_there)
    file = cluster.client_file
    tls = Tls(ca_file=cluster.authority.ca_file, cert_file=file, key_file=file)
    with closing(connect(cluster.url, tls, keyspace=KEYS)) as client:
        assert len(client.shards()) == 3


def test_a_certificate_of_another_authority_is_not_trusted(
    cluster: TlsCluster, stranger: Authority
) -> None:
    code, line = clock(cluster, HOURGLASS_REDIS_CA_FILE=stranger.ca_file)
    assert code == 1
    assert "not trusted (self-signed certificate in certificate chain)" in line
    assert "HOURGLASS_REDIS_CA_FILE" in line


@pytest.mark.parametrize(
    ("name", "valid_for", "reason"),
    [
        ("localhost", timedelta(days=-1), "certificate has expired"),
        ("elsewhere", timedelta(days=1), "Hostname mismatch"),
    ],
)
def test_a_server_whose_certificate_is_wrong_is_not_trusted(
    cluster: TlsCluster, name: str, valid_for: timedelta, reason: str
) -> None:
    with cluster.showing(cluster.authority.certificate(name, valid_for=valid_for)):
        code, line = clock(cluster)
    assert code == 1
    assert f"not trusted ({reason}" in line


def test_a_client_without_a_certificate_gets_an_error_that_says_so(cluster: TlsCluster) -> None:
    code, line = clock(cluster, HOURGLASS_REDIS_CERT_FILE="", HOURGLASS_REDIS_KEY_FILE="")
    assert code == 1
    assert re.search("accepts? the client certificate", line)


@pytest.mark.parametrize("wrong", ["signed by somebody else", "expired"])
def test_a_client_certificate_that_is_no_good_is_refused(
    cluster: TlsCluster, stranger: Authority, wrong: str
) -> None:
    file = (
        cluster.authority.certificate("meter", valid_for=timedelta(days=-1))
        if wrong == "expired"
        else stranger.certificate("meter")
    )
    code, line = clock(cluster, HOURGLASS_REDIS_CERT_FILE=file, HOURGLASS_REDIS_KEY_FILE=file)
    assert code == 1
    assert re.search("accepts? the client certificate", line)


@pytest.mark.parametrize(
    ("variable", "file"),
    [
        ("HOURGLASS_REDIS_CA_FILE", "/nowhere/ca.pem"),
        ("HOURGLASS_REDIS_CA_FILE", __file__),
        ("HOURGLASS_REDIS_CERT_FILE", "/nowhere/tls.crt"),
        ("HOURGLASS_REDIS_CERT_FILE", __file__),
        ("HOURGLASS_REDIS_KEY_FILE", __file__),
    ],
)
def test_a_file_without_what_it_should_hold_is_named(
    cluster: TlsCluster, variable: str, file: str
) -> None:
    code, line = clock(cluster, **{variable: file})
    assert code == 2
    assert file in line
    assert variable in line


def test_tls_files_with_a_redis_url_without_tls_are_refused(cluster: TlsCluster) -> None:
    code, line = clock(cluster, HOURGLASS_REDIS_URL=cluster.url.replace("rediss", "redis"))
    assert code == 2
    assert "rediss://" in line


def test_without_tls_a_secured_port_is_no_redis(cluster: TlsCluster) -> None:
    code, line = one_line(
        "clock", "show", HOURGLASS_REDIS_URL=cluster.url.replace("rediss", "redis")
    )
    assert code == 1
    assert "rediss:// is for TLS" in line


def test_with_tls_a_plain_port_is_no_redis(redis_url: str) -> None:
    code, line = one_line("clock", "show", HOURGLASS_REDIS_URL=redis_url.replace("redis", "rediss"))
    assert code == 1
    assert "rediss:// is for TLS" in line


def test_a_wrong_password_over_tls_is_refused_without_showing_it(cluster: TlsCluster) -> None:
    code, line = clock(
        cluster, HOURGLASS_REDIS_USERNAME="nobody", HOURGLASS_REDIS_PASSWORD="wrong-secret"
    )
    assert code == 1
    assert "user name and password" in line
    assert "wrong-secret" not in line
