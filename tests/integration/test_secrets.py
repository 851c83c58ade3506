"""Secrets come from the environment or a file, and go nowhere: no log, no metric, no error, no
trace, no list of processes."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from tests.support.cluster import EmbeddedCluster
from tests.support.commands import run
from tests.support.pipeline import Pipeline, at
from tests.support.postgres import Postgres
from tests.support.services import Services, services
from tests.support.users import PASSWORD, acl_file
from tests.support.waiting import wait_until

REDIS_SECRET = PASSWORD
SERVICES = {"producer": "producer", "aggregator": "aggregator", "consumer": "averages_consumer"}
LOADED = "hourglass_averages_loaded_total"


def revealed(texts: Iterable[bytes | str], *secrets: str) -> list[str]:
    """Those of the secrets that stand in them, however they are written."""
    everything = b"\n".join(text.encode() if isinstance(text, str) else text for text in texts)
    assert everything.strip()
    forms = [form for secret in secrets for form in (secret, quote(secret, safe=""))]
    return [form for form in forms if form.encode() in everything]


def test_a_secret_is_found_where_there_is_one() -> None:
    assert revealed([f"redis://me:{quote(REDIS_SECRET, safe='')}@host/"], REDIS_SECRET)
    assert revealed([b"NOAUTH", f"AUTH {REDIS_SECRET}"], REDIS_SECRET)


@contextmanager
def collector() -> Generator[tuple[str, list[bytes]]]:
    """An OTLP endpoint, and what has been sent to it."""
    received: list[bytes] = []

    class Receive(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(str(self.headers).encode() + body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any, **__: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Receive) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", received
        server.shutdown()


@pytest.fixture
def guarded(tmp_path: Path, redis_binary: Path | None) -> Generator[EmbeddedCluster]:
    """A cluster with users, whose nodes can be killed and restarted."""
    options = {"aclfile": str(acl_file(tmp_path))}
    with EmbeddedCluster(masters=1, binary=redis_binary, options=options) as cluster:
        yield cluster


def said_by(running: Services) -> list[str]:
    """All that can be had from outside of these processes."""
    texts = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]
    for name in SERVICES:
        texts += [running.said(name), running.output(name).read_text()]
        texts += [running.get(name, path)[1] for path in ("/livez", "/readyz", "/metrics", "/")]
    return texts


@pytest.mark.system
def test_nothing_that_goes_wrong_reveals_a_secret(
    guarded: EmbeddedCluster, postgres: Postgres
) -> None:
    with (
        collector() as (endpoint, traces),
        Pipeline(guarded.url) as pipeline,
        services(
            guarded.url,
            HOURGLASS_LOG_LEVEL="debug",
            HOURGLASS_REDIS_PASSWORD=REDIS_SECRET,
            HOURGLASS_WAREHOUSE_URL=postgres.new_database(),
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            OTEL_BSP_SCHEDULE_DELAY="50",
        ) as running,
    ):
        pipeline.run_clock(at(0), 3600.0)
        for name, module in SERVICES.items():
            user = f"hourglass-{module.replace('_', '-')}"
            running.start(name, module, "--redis-username", user)
        wait_until(lambda: running.metric("consumer", LOADED), message="nothing is loaded")
        texts = said_by(running)

        postgres.stop()
        (node,) = guarded.nodes
        node.kill()
        for name in SERVICES:
            wait_until(lambda name=name: not running.ready(name), message=f"{name} is ready")
        texts += said_by(running)
        node.restart()
        wait_until(
            lambda: "does not answer" in running.get("consumer", "/readyz")[1],
            message="the warehouse is not missed",
        )
        texts += said_by(running)
        postgres.start()
        running.await_ready(*SERVICES)

        for name in SERVICES:
            assert running.terminate(name) == 0
        texts += said_by(running)
        wait_until(lambda: traces, message="no span was exported")
        assert revealed([*texts, *traces], REDIS_SECRET, postgres.password) == []


@pytest.mark.parametrize("module", ["producer", "aggregator", "averages_consumer", "hourglassctl"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"HOURGLASS_REDIS_PASSWORD": "{redis}!"},
        {"HOURGLASS_REDIS_URL": "redis://me:{redis}@127.0.0.1:{port}"},
        {"HOURGLASS_REDIS_URL": "redis://me:{redis}@127.0.0.1:{redis}"},
        {"HOURGLASS_REDIS_URL": "{redis}"},
        {"HOURGLASS_REDIS_PASSWORD_FILE": "/nowhere"},
    ],
    ids=["wrong password", "wrong user", "no port", "no URL", "no file"],
)
def test_a_wrong_secret_is_not_shown(
    guarded: EmbeddedCluster, tmp_path: Path, module: str, wrong: dict[str, str]
) -> None:
    fill = {"redis": quote(REDIS_SECRET, safe=""), "port": guarded.ports[0]}
    right = {
        "HOURGLASS_REDIS_URL": guarded.url,
        "HOURGLASS_REDIS_USERNAME": "hourglass-operator",
        "HOURGLASS_REDIS_PASSWORD": REDIS_SECRET,
        "HOURGLASS_WAREHOUSE_URL": f"sqlite:///{tmp_path}/warehouse.db",
    }
    filled = {name: value.format(**fill) for name, value in wrong.items()}
    command = [module, "status"] if module == "hourglassctl" else [module]
    code, said = end_of(command, **{**right, **filled})
    assert code in (1, 2)
    assert len(said.splitlines()) == 1
    assert revealed([said], REDIS_SECRET) == []


@pytest.mark.parametrize("wrong", ["secret", "host", "driver", "port", "option", "key"])
def test_a_wrong_warehouse_is_not_shown_with_its_password(
    redis_url: str, postgres: Postgres, wrong: str
) -> None:
    right = postgres.url()
    without = right.replace(f":{quote(postgres.password, safe='')}@", "@")
    assert postgres.password not in without
    url = {
        "secret": right.replace("postgres:", "postgres:wrong-"),
        "host": right.replace("?host=", "?host=/nowhere"),
        "driver": right.replace("postgresql:", "mysql:"),
        "port": right.replace("@/", "@localhost:port/"),
        # The forms that libpq knows besides.
        "option": f"{without}&password={quote(postgres.password + ' ', safe='')}",
        "key": f"{without}&sslmode=require&sslpassword={quote(postgres.password, safe='')}",
    }[wrong]
    code, said = end_of(
        ["hourglassctl", "audit"], HOURGLASS_REDIS_URL=redis_url, HOURGLASS_WAREHOUSE_URL=url
    )
    assert code in (1, 2)
    assert len(said.splitlines()) == 1
    assert revealed([said], postgres.password) == []


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["producer", "--redis-url", "redis://me:{}@host"], "HOURGLASS_REDIS_URL"),
        (["averages_consumer", "--warehouse-url", "postgresql://me:{}@host/db"],
         "HOURGLASS_WAREHOUSE_URL"),
        (["hourglassctl", "audit", "--warehouse-url", "postgresql://host/db?password={}"],
         "HOURGLASS_WAREHOUSE_URL"),
    ],
)  # fmt: skip
def test_a_password_in_an_argument_is_refused(command: list[str], named: str) -> None:
    code, said = end_of([part.format(quote(REDIS_SECRET, safe="")) for part in command])
    assert code == 2
    assert named in said
    assert len(said.splitlines()) == 1
    assert revealed([said], REDIS_SECRET) == []


def test_secrets_may_come_from_mounted_files(
    guarded: EmbeddedCluster, postgres: Postgres, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(f"{REDIS_SECRET}\n")
    (tmp_path / "url").write_text(postgres.new_database())
    with Pipeline(guarded.url) as pipeline, services(guarded.url) as running:
        pipeline.run_clock(at(0), 3600.0)
        files = ("--redis-password-file", str(tmp_path / "password"))
        running.producer("producer", "--redis-username", "hourglass-producer", *files)
        running.aggregator("aggregator", "--redis-username", "hourglass-aggregator", *files)
        running.start(
            "consumer", "averages_consumer", "--redis-username", "hourglass-averages-consumer",
            "--warehouse-url-file", str(tmp_path / "url"), *files,
        )  # fmt: skip
        wait_until(lambda: running.metric("consumer", LOADED), message="nothing is loaded")


def end_of(command: list[str], **environment: str) -> tuple[int, str]:
    """Exit code of a command that ends by itself, and all that it says."""
    common = {
        "HOURGLASS_CONNECT_WITHIN_S": "0",
        "HOURGLASS_HTTP_PORT": "0",
        "HOURGLASS_WEB_PORT": "0",
        "HOURGLASS_LOG_LEVEL": "debug",
    }
    ended = run(*command, **{**common, **environment})
    return ended.returncode, ended.stdout + ended.stderr
