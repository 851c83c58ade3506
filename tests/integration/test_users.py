"""Least privilege: the pipeline works under the users of deploy/redis/users.acl, and none of them
can do what is not its business."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

import hourglass
from hourglass.cluster.connect import connect
from hourglass.errors import UnsupportedServer
from hourglass.model.keys import HOUR_MS, HOURS
from hourglass.monitoring.pipeline_status import PipelineStatus, Snapshot, collect
from hourglass.monitoring.problems import problems
from hourglass.monitoring.stream_stats import Removals
from hourglassctl.replay import DataSet, replay
from tests.support.cluster import EmbeddedCluster, Node
from tests.support.commands import run, run_hourglass
from tests.support.keyspace import KEYS, beside
from tests.support.pipeline import DAY, Pipeline, at, reading
from tests.support.services import Services, services
from tests.support.users import (
    FILE,
    PASSWORD,
    acl_file,
    denials,
    made_by_users_sh,
    names,
)
from tests.support.waiting import wait_until

SPEED = 1800.0
COUNTED = "hourglass_readings_counted_total"
LOADED = "hourglass_averages_loaded_total"
REFILLED = "hourglass_averages_refilled_total"
STRAY = 'hourglass_stray_streams{reason="name"}'
LANES = 2
#: A pipeline whose name begins as this one's does.
OTHER = beside(f"{KEYS.pipeline}-")
PRODUCER = (
    "--wait-replicas", "1", "--devices", "6", "--period-s", "10", "--lanes", str(LANES),
)  # fmt: skip


def command(cluster: EmbeddedCluster, user: str, *arguments: str) -> str:
    """What the operator's command says under that user; status may find the pipeline unwell, so
    soon after what was done to it."""
    ended = run_hourglass(
        *arguments,
        HOURGLASS_REDIS_URL=cluster.url,
        HOURGLASS_REDIS_USERNAME=f"hourglass-{user}",
        HOURGLASS_REDIS_PASSWORD=PASSWORD,
    )
    assert ended.returncode in ((0, 1) if "status" in arguments else (0,)), (
        f"{arguments}: {ended.stderr or ended.stdout}"
    )
    return ended.stdout


def start(
    running: Services, name: str, module: str, user: str, *options: str, **environment: str
) -> None:
    running.start(
        name, module, "--redis-username", f"hourglass-{user}", *options,
        HOURGLASS_REDIS_PASSWORD=PASSWORD, **environment,
    )  # fmt: skip


def more(running: Services, name: str, sample: str) -> None:
    """Wait until the sample has grown."""
    before = running.metric(name, sample) or 0.0
    wait_until(
        lambda: (running.metric(name, sample) or 0.0) > before, message=f"{name}: no {sample}"
    )


@pytest.fixture
def guarded(tmp_path: Path, redis_binary: Path | None) -> Generator[EmbeddedCluster]:
    """A cluster with the users, a replica for each master, and nodes that can be restarted."""
    with EmbeddedCluster(
        replicas=1,
        node_timeout_ms=1000,
        binary=redis_binary,
        options={"aclfile": str(acl_file(tmp_path))},
    ) as cluster:
        yield cluster


@pytest.mark.system
def test_the_pipeline_needs_nothing_that_its_users_may_not_do(
    guarded: EmbeddedCluster, tmp_path: Path
) -> None:
    with Pipeline(guarded.url) as pipeline, services(guarded.url) as running:
        command(guarded, "operator", "clock", "run", "--from", "2025-01-01", "--speed", str(SPEED))
        start(running, "producer", "producer", "producer", *PRODUCER)
        wait_until(lambda: len(pipeline.partitions()) == LANES, message="the lanes do not appear")
        lane = pipeline.partitions()[0].stream
        for key in (KEYS.partitions, DAY.lanes):
            pipeline.cluster.call("DEL", key)
        start(
            running, "aggregator-1", "aggregator", "aggregator",
            faults="commit.before:kill@20",
        )  # fmt: skip
        start(running, "aggregator-2", "aggregator", "aggregator", "--lateness-s", "0.5")
        warehouse = f"sqlite:///{tmp_path}/warehouse.db"
        start(
            running, "consumer", "averages_consumer", "averages-consumer",
            "--warehouse-url", warehouse,
        )  # fmt: skip
        pipeline.xadd(temp_f="hot")
        pipeline.cluster.call("XADD", f"{KEYS.pipeline}:2025-01-01", "*", "temp_f", 73)
        wait_until(
            lambda: running.metric("aggregator-2", STRAY) == 1,
            message="the stream that nobody reads is not found",
        )
        more(running, "consumer", LOADED)
        wait_until(
            lambda: running.metric("aggregator-2", "hourglass_entries_reclaimed_total"),
            message="nothing is claimed from the one that was killed",
        )
        guarded.move_slot(lane, to=other_master(guarded, lane))
        more(running, "aggregator-2", COUNTED)
        for key in (lane, KEYS.averages):
            fail_over(guarded, key)
            more(running, "aggregator-2", COUNTED)
            more(running, "consumer", LOADED)
        pipeline.cluster.refresh_topology()
        pipeline.cluster.call("XGROUP DESTROY", lane, "aggregators")
        wait_until(
            lambda: running.metric("aggregator-2", "hourglass_partition_recounts_total"),
            message="the partition whose group was destroyed is not counted again",
        )
        assert running.failed() == []

        assert json.loads(command(guarded, "auditor", "status", "--json"))["partitions"]
        command(guarded, "auditor", "audit", "--warehouse-url", warehouse)
        assert "hot" in command(guarded, "auditor", "quarantine", "list")
        assert "stays" in command(guarded, "operator", "quarantine", "redrive")
        command(guarded, "operator", "clock", "wall")
        running.stop()
        command(guarded, "operator", "replay", "--days", "1", "--period-s", "60", "--reset")
        assert command(guarded, "operator", "reset", "--yes").startswith("deleted")

    assert denials(guarded.nodes) == set()


def test_the_averages_consumer_may_load_what_was_trimmed_from_the_hour_records(
    tmp_path: Path, redis_binary: Path | None
) -> None:
    options = {"aclfile": str(acl_file(tmp_path))}
    with (
        EmbeddedCluster(masters=1, binary=redis_binary, options=options) as cluster,
        Pipeline(cluster.url) as pipeline,
        services(cluster.url) as running,
    ):
        replay(pipeline.cluster, DataSet(days=1, devices=4, period_ms=HOUR_MS // 4), lanes=LANES)
        pipeline.count(*pipeline.partitions())
        pipeline.seal()
        pipeline.cluster.call("XTRIM", KEYS.averages, "MAXLEN", 1)

        start(
            running, "consumer", "averages_consumer", "averages-consumer",
            "--warehouse-url", f"sqlite:///{tmp_path}/warehouse.db",
        )  # fmt: skip
        wait_until(lambda: running.metric("consumer", REFILLED) == HOURS - 1, message="no refill")

        assert denials(cluster.nodes) == set()


def uncounted_entry_removed(pipeline: Pipeline) -> None:
    pipeline.open()
    pipeline.produce(*(reading(at(0) + number) for number in range(3)))
    ((first, _), *_) = pipeline.cluster.call("XRANGE", DAY.stream, "-", "+")
    pipeline.cluster.call("XDEL", DAY.stream, first)


def test_the_averages_consumer_finds_entries_that_another_program_removed(
    tmp_path: Path, redis_binary: Path | None
) -> None:
    options = {"aclfile": str(acl_file(tmp_path))}
    with (
        EmbeddedCluster(masters=1, binary=redis_binary, options=options) as cluster,
        Pipeline(cluster.url) as pipeline,
    ):
        uncounted_entry_removed(pipeline)

        assert collected(cluster, pipeline).removals == {
            DAY.stream: Removals(entries=1, uncounted=1)
        }
        assert denials(cluster.nodes) == set()


def test_with_an_earlier_users_acl_removals_are_unknown_and_nothing_else_changes(
    tmp_path: Path, redis_binary: Path | None
) -> None:
    file = acl_file(tmp_path)
    partition = f"%R~{KEYS.pipeline}:[0-9]*"
    added = f"({partition} %R~{{{KEYS.pipeline}:[0-9]*}}:hours +eval_ro +evalsha_ro) "
    now = file.read_text()
    assert added in now
    file.write_text(now.replace(added, ""))
    with (
        EmbeddedCluster(masters=1, binary=redis_binary, options={"aclfile": str(file)}) as cluster,
        Pipeline(cluster.url) as pipeline,
    ):
        uncounted_entry_removed(pipeline)

        status = collected(cluster, pipeline)
        assert (status.removals, len(status.partitions)) == (None, 1)
        instant = status.instant
        seen = Snapshot(instant=instant, pipeline=status, averages_at_ms=instant.real_ms)
        (problem,) = (each for each in problems(seen) if "removals" in each.code)
        assert "deploy/redis/users.acl" in problem.text


def collected(cluster: EmbeddedCluster, pipeline: Pipeline) -> PipelineStatus:
    """The status that the page of an averages consumer reads."""
    user = "hourglass-averages-consumer"
    with closing(connect(cluster.url, username=user, password=PASSWORD, keyspace=KEYS)) as own:
        return collect(own, pipeline.clock.refresh())


def other_master(embedded: EmbeddedCluster, key: str) -> Node:
    holders = {embedded.master_of(f"any-{number}") for number in range(50)}
    return next(node for node in holders if node is not embedded.master_of(key))


def fail_over(embedded: EmbeddedCluster, key: str) -> None:
    """Kill the master of `key`, wait until its replica holds it, and give it back as a replica."""
    lost = embedded.master_of(key)
    lost.kill()
    wait_until(lambda: embedded.master_of(key) is not lost, message="no replica takes over")
    lost.restart()
    embedded.await_whole()


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory, redis_binary: Path | None) -> Generator[Node]:
    """A cluster of one shard, so that every key is at home; with the users of two pipelines."""
    file = acl_file(tmp_path_factory.mktemp("users"), others=[OTHER.pipeline])
    with EmbeddedCluster(masters=1, binary=redis_binary, options={"aclfile": str(file)}) as cluster:
        (node,) = cluster.nodes
        yield node


EVERYBODY = ("producer", "aggregator", "averages-consumer", "auditor", "operator")
RECORDS, QUARANTINE, DEVICES = DAY.hours, DAY.quarantine, DAY.devices(0)
#: By newer servers, and by 7.0.
SAID_IN_SCRIPTS = ("ACL failure in script", "The user executing the script can't")
#: Whoever is not named may not.
MAY: Mapping[str, Sequence[str]] = {
    # readings
    f"XADD {DAY.stream} * temp_f 73": ("producer", "operator"),
    f"XRANGE {DAY.stream} - +": ("aggregator", "averages-consumer", "auditor", "operator"),
    f"XLEN {DAY.stream}": ("aggregator", "averages-consumer", "auditor", "operator"),
    f"XREAD STREAMS {DAY.stream} 0": (),
    f"XREADGROUP GROUP aggregators me STREAMS {DAY.stream} >": ("aggregator",),
    f"XACK {DAY.stream} aggregators 1-0": ("aggregator",),
    f"XDEL {DAY.stream} 1-0": ("operator",),
    f"XTRIM {DAY.stream} MAXLEN 0": (),
    f"XGROUP DESTROY {DAY.stream} aggregators": ("aggregator",),
    f"XGROUP SETID {DAY.stream} aggregators 0": (),
    f"UNLINK {DAY.stream}": ("operator",),
    f"RENAME {DAY.stream} {DAY.stream}": (),
    # what was counted
    f"HGETALL {RECORDS}": ("averages-consumer", "auditor", "operator"),
    f"HEXISTS {RECORDS} 00:sealed": ("producer", "aggregator", "operator"),
    f"HSET {RECORDS} 00:sum 1": ("aggregator", "operator"),
    f"XADD {QUARANTINE} * id 1": ("aggregator", "operator"),
    f"XLEN {QUARANTINE}": ("aggregator", "auditor", "operator"),
    f"XRANGE {QUARANTINE} - +": ("aggregator", "auditor", "operator"),
    f"HSET {DEVICES} porch-0 1": ("aggregator", "operator"),
    f"HLEN {DEVICES}": ("aggregator", "auditor", "operator"),
    f"HGETALL {DEVICES}": ("auditor", "operator"),
    f"PEXPIREAT {DEVICES} 9999999999999": ("aggregator", "operator"),
    f"SMEMBERS {DEVICES}": (),
    f"DEL {RECORDS}": ("operator",),
    f"DEL {DEVICES}": ("operator",),
    f"HSET {DAY.producers} me 1": ("producer", "aggregator", "operator"),
    f"ZADD {DAY.watermarks} 1 me": ("producer", "operator"),
    f"ZREM {DAY.watermarks} me": ("aggregator",),
    f"HGETALL {DAY.producers}": ("aggregator", "averages-consumer", "auditor", "operator"),
    f"GET {DAY.lanes}": EVERYBODY,
    f"SET {DAY.lanes} 0": ("producer", "aggregator", "operator"),
    f"SET {RECORDS} 0": (),
    # averages
    f"XADD {KEYS.averages} 1-0 count 1": ("aggregator", "operator"),
    f"SET {KEYS.published_through} 0": ("aggregator", "operator"),
    f"GET {KEYS.published_through}": ("aggregator", "averages-consumer", "auditor", "operator"),
    f"XREADGROUP GROUP warehouse me STREAMS {KEYS.averages} >": ("averages-consumer",),
    f"XACK {KEYS.averages} warehouse 1-0": ("averages-consumer",),
    f"ZRANGE {KEYS.published} 0 -1": ("aggregator", "averages-consumer", "auditor", "operator"),
    f"ZRANGE {KEYS.too_late} 0 -1": ("aggregator", "averages-consumer", "auditor", "operator"),
    f"ZCARD {KEYS.revisions}": ("averages-consumer", "auditor", "operator"),
    f"XREAD STREAMS {KEYS.averages} 0": ("averages-consumer",),
    f"GET {KEYS.strays}": ("aggregator", "averages-consumer", "auditor", "operator"),
    f"SET {KEYS.strays} 1": ("aggregator",),
    f"ZADD {KEYS.published} 1 1:1:1": ("aggregator", "operator"),
    f"DEL {KEYS.averages}": ("aggregator", "operator"),  # which may SET it as well
    # clock and index
    f"HGETALL {KEYS.clock}": EVERYBODY,
    f"HSET {KEYS.clock} mode wall": ("operator",),
    f"DEL {KEYS.clock}": ("operator",),
    f"ZADD {KEYS.partitions} 1 {DAY.stream}": ("producer", "aggregator", "operator"),
    f"ZRANGE {KEYS.partitions} 0 -1": (
        "aggregator",
        "averages-consumer",
        "auditor",
        "operator",
    ),
    # other people's keys, and the server
    "GET other": (),
    "SET other 1": (),
    "EVAL_RO return(redis.call('GET',KEYS[1])) 1 other": (),
    "EVAL return(redis.call('GET',KEYS[1])) 1 other": (),
    f"EVAL return(redis.call('DEL',KEYS[1])) 1 {DAY.stream}": ("operator",),
    f"EVALSHA_RO {'0' * 40} 1 {DAY.stream}": (
        "aggregator",
        "averages-consumer",
        "auditor",
        "operator",
    ),
    f"EVAL_RO return(1) 1 {DAY.stream}": ("aggregator", "averages-consumer", "auditor", "operator"),
    "SCAN 0": ("aggregator", "operator"),
    "KEYS *": (),
    "FLUSHALL": (),
    "CONFIG GET requirepass": (),
    "ACL LIST": (),
    "CLIENT LIST": (),
    "MONITOR": (),
    "SHUTDOWN": (),
    "SCRIPT FLUSH": (),
    "FUNCTION LIST": (),
    "CLUSTER RESET": (),
    "CLUSTER NODES": (),
    "PUBLISH channel message": (),
    "INFO server": EVERYBODY,
    "TIME": EVERYBODY,
    "ASKING": EVERYBODY,
}


@pytest.mark.parametrize("said", MAY)
def test_each_user_may_do_its_own_work_and_nothing_else(shard: Node, said: str) -> None:
    assert [user for user in EVERYBODY if is_allowed(shard, user, said)] == list(MAY[said])


@pytest.mark.parametrize("said", [each for each in MAY if KEYS.pipeline in each])
def test_the_users_of_another_pipeline_may_the_same_with_its_keys_and_nothing_with_these(
    shard: Node, said: str
) -> None:
    theirs = {user: f"{OTHER.pipeline}-{user}" for user in EVERYBODY}
    of_theirs = said.replace(KEYS.pipeline, OTHER.pipeline)

    assert [u for u in EVERYBODY if is_allowed(shard, theirs[u], of_theirs)] == list(MAY[said])
    assert not [u for u in EVERYBODY if is_allowed(shard, theirs[u], said)]
    assert not [u for u in EVERYBODY if is_allowed(shard, u, of_theirs)]


def is_allowed(shard: Node, user: str, said: str) -> bool:
    with Redis(port=shard.port, username=f"hourglass-{user}", password=PASSWORD) as client:
        try:
            cast(Any, client).execute_command(*said.split())
        except NoPermissionError:
            return False
        except ResponseError as error:
            # Others are errors of what is allowed.
            return not str(error).startswith(SAID_IN_SCRIPTS)
        return True


def test_a_command_refused_in_a_pipeline_is_reported(shard: Node) -> None:
    url = f"redis://127.0.0.1:{shard.port}"
    with closing(
        connect(url, username="hourglass-averages-consumer", password=PASSWORD, keyspace=KEYS)
    ) as one:
        assert one.pipeline([("HGETALL", DAY.hours)])
        with pytest.raises(UnsupportedServer, match=r"deploy/redis/users\.acl"):
            one.pipeline([("HGETALL", DAY.hours), ("HGETALL", DAY.devices(0))])


def test_every_user_of_the_file_is_tried() -> None:
    assert names() == [f"hourglass-{user}" for user in EVERYBODY]


def test_no_user_can_log_in_with_the_file_as_shipped(
    tmp_path: Path, redis_binary: Path | None
) -> None:
    options = {"aclfile": str(acl_file(tmp_path, state="off"))}
    with EmbeddedCluster(masters=1, binary=redis_binary, options=options) as cluster:
        for name in names():
            with pytest.raises(UnsupportedServer, match="user name and password"):
                connect(cluster.url, username=name, password=PASSWORD, keyspace=KEYS)


@pytest.mark.parametrize(
    ("module", "user"),
    [
        ("producer", "averages-consumer"),
        ("aggregator", "producer"),
        ("averages_consumer", "producer"),
        ("aggregator", "auditor"),
    ],
)
def test_a_service_whose_user_may_too_little_says_so_in_one_line(
    shard: Node, tmp_path: Path, module: str, user: str
) -> None:
    with Pipeline(f"redis://127.0.0.1:{shard.port}") as pipeline:
        pipeline.run_clock(at(0), SPEED)
    ended = run(
        module,
        "--redis-username",
        f"hourglass-{user}",
        HOURGLASS_REDIS_URL=f"redis://127.0.0.1:{shard.port}",
        HOURGLASS_REDIS_PASSWORD=PASSWORD,
        HOURGLASS_WAREHOUSE_URL=f"sqlite:///{tmp_path}/warehouse.db",
        HOURGLASS_HTTP_PORT="0",
        HOURGLASS_WEB_PORT="0",
        HOURGLASS_LOG_LEVEL="warning",
    )
    assert ended.returncode == 1
    # A producer says before how many readings it drops.
    *dropped, line = ended.stderr.splitlines()
    assert all("readings dropped" in each for each in dropped)
    assert "deploy/redis/users.acl" in line


def test_passwords_come_from_files_and_a_user_without_one_cannot_log_in(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.mkdir()
    (passwords / "hourglass-auditor").write_text(f"{PASSWORD}\nnot this line\n")
    made = made_by_users_sh(passwords)
    assert PASSWORD not in made
    (tmp_path / "users.acl").write_text(made)
    options = {"aclfile": str(tmp_path / "users.acl")}
    with EmbeddedCluster(masters=1, options=options) as cluster:
        connect(cluster.url, username="hourglass-auditor", password=PASSWORD, keyspace=KEYS).close()
        for user, password in (("hourglass-auditor", "wrong"), ("hourglass-operator", PASSWORD)):
            with pytest.raises(UnsupportedServer, match="user name and password"):
                connect(cluster.url, username=user, password=password, keyspace=KEYS)


def test_another_pipelines_users_have_their_passwords_in_files_of_their_own_names(
    tmp_path: Path,
) -> None:
    (tmp_path / "hourglass-weather-auditor").write_text("secret\n")
    (tmp_path / "hourglass-operator").write_text("secret\n")

    made = made_by_users_sh(tmp_path, "weather").splitlines()

    assert [line.split()[1] for line in made if line.split()[2] != "off"] == [
        "hourglass-weather-auditor"
    ]
    assert not [line for line in made if "temps" in line]


@pytest.mark.parametrize("name", ["a b", "a:b", "*"])
def test_users_of_a_pipeline_that_cannot_be_are_not_made(tmp_path: Path, name: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        made_by_users_sh(tmp_path, name)

    assert failed.value.returncode == 2
    assert "cannot be a pipeline's name" in failed.value.stderr


#: Whose scripts a user runs.
RUNS = {
    "producer": (
        "producer/ingest",
        "hourglass/calls",
        "hourglass/divide",
        "hourglass/register",
    ),
    "aggregator": (
        "aggregator/*",
        "hourglass/calls",
        "hourglass/divide",
        "hourglass/register",
        "hourglass/reap",
        "hourglass/partials",
    ),
    "averages-consumer": ("averages_consumer/*", "hourglass/reap", "hourglass/removed"),
    "operator": (
        "hourglassctl/*",
        "hourglass/partials",
        "producer/ingest",
        "hourglass/divide",
        "hourglass/register",
    ),
}


@pytest.mark.parametrize("user", RUNS)
def test_a_user_may_run_the_commands_that_its_scripts_call(user: str) -> None:
    services = Path(hourglass.__file__).parent.parent
    scripts = [
        path
        for each in RUNS[user]
        for path in services.glob(f"{each.partition('/')[0]}/scripts/{each.partition('/')[2]}.lua")
    ]
    called = {
        (
            path.name,
            f"{command}|{word}".lower() if command in ("XGROUP", "XINFO") else command.lower(),
        )
        for path in scripts
        for command, word in re.findall(
            r"redis\.p?call\('(\w+)'(?:, '(\w+)')?", path.read_text(encoding="utf-8")
        )
    }
    (rules,) = (
        line for line in FILE.read_text(encoding="utf-8").splitlines() if f"-{user} " in line
    )
    assert {each for each in called if not re.search(rf"\+{re.escape(each[1])}\b", rules)} == set()
