"""Hourglass on the cluster: installed by `make up`, read through its pods and by the operator's
command in a pod of its own."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from textwrap import dedent, indent
from typing import Any, TypeVar

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.kubernetes.cluster import ClusterError, Manifest, Namespace, run
from tests.kubernetes.ledger import Ledger, Tally
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("producer", "aggregator", "averages-consumer")
WORKLOADS = {
    "redis-cluster-dev": "statefulset/redis-cluster-dev",
    "producer": "statefulset/producer",
    "aggregator": "deployment/aggregator",
    "averages-consumer": "deployment/averages-consumer",
}
#: An hour of simulated time each six seconds; a device then gives 600 readings a second.
SPEED = 600
#: Where the simulated clock starts, so that hours and days are round.
START = "2025-01-01T00:00:00Z"
OPERATOR = "operator"
#: Where `redis-cluster-dev`'s Secret has the operator's name and password.
OPERATOR_KEYS = {"HOURGLASS_REDIS_USERNAME": "username", "HOURGLASS_REDIS_PASSWORD": "password"}
#: A generous wait for what should take seconds: machines are slow, and kubelets take their time.
PATIENCE_S = 180.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Where the cluster pulls from: the variables of `make`."""

    registry: str
    tag: str
    redis_registry: str

    @classmethod
    def from_environment(cls) -> Images | None:
        """None without a TAG: then nothing is to be installed."""
        tag = os.environ.get("TAG", "")
        if not tag:
            return None
        return cls(
            registry=os.environ.get("REGISTRY", ""),
            tag=tag,
            redis_registry=os.environ.get("REDIS_REGISTRY", ""),
        )

    def of(self, name: str) -> str:
        return f"{self.registry}/hourglass/{name}:{self.tag}".lstrip("/")


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of one pod's /metrics."""

    pod: str
    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Settlement:
    """The counts of the producers and of `hourglass audit`, with nothing in flight."""

    produced: Tally
    audit: dict[str, Any]

    def check(self, *, differences: int = 0) -> None:
        """Every reading that any producer ever gave was taken, and counted once."""
        audit = self.audit
        assert len(audit["differences"]) == differences, audit["differences"]
        assert (self.produced.dropped, audit["quarantined"]) == (0, 0)
        assert self.produced.produced == self.produced.taken == audit["counted"] + audit["late"]


@dataclass(slots=True)
class Installation:
    """One `make up`. Its names of releases are the charts'.

    flags: for Helm, at every upgrade of a chart
    workloads: the kind and name of each chart's workload
    """

    namespace: Namespace
    images: Images
    flags: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    workloads: Mapping[str, str] = field(default_factory=WORKLOADS.copy)
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.namespace)

    def make(self, target: str, **overrides: str) -> None:
        """`make up` or `make down`, from outside of any make."""
        outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        helm = Path(self.namespace.helm_binary)
        if helm.is_absolute():
            outer["PATH"] = f"{helm.parent}{os.pathsep}{outer['PATH']}"
        variables = {
            "NAMESPACE": self.namespace.name,
            "REGISTRY": self.images.registry,
            "TAG": self.images.tag,
            "REDIS_REGISTRY": self.images.redis_registry,
            **overrides,
        }
        arguments = [f"{name}={value}" for name, value in variables.items()]
        run("make", "--directory", str(ROOT), target, *arguments, env=outer)

    def upgrade(self, chart: str, *flags: str, **values: str) -> None:
        """`helm upgrade` as `make up` does it, with values over those of the environment."""
        given = [*self.flags.get(chart, ()), *flags]
        for key, value in values.items():
            given += ["--set", f"{key}={value}"]
        self.make("up", CHARTS=chart, HELM_FLAGS=shlex.join(given))

    def scale(self, app: str, replicas: int) -> None:
        """`kubectl scale`; returns when that many pods are ready and the rest are gone."""
        workload = self.workloads[app]
        self.namespace.kubectl("scale", workload, f"--replicas={replicas}")
        self.namespace.rolled_out(workload)
        await_on_cluster(
            lambda: len(self.namespace.list("pods", name=app)) == replicas,
            f"{app} has not {replicas} pods",
        )

    def replicas(self, app: str) -> int:
        return self.namespace.get(*self.workloads[app].split("/"))["spec"]["replicas"]

    def uids(self, *apps: str) -> set[str]:
        """Of the pods, with the number of restarts of their containers."""
        return {
            f"{pod['metadata']['uid']} {status['restartCount']}"
            for app in apps
            for pod in self.namespace.pods(app)
            for status in pod["status"]["containerStatuses"]
        }

    def settle(self) -> Settlement:
        """Send the producers away, see that all they gave is counted, audit, call them back."""
        producers = self.replicas("producer")
        self.scale("producer", 0)
        await_on_cluster(self.is_counted, "not everything is counted")
        settlement = Settlement(self.ledger.total(), self.audit())
        self.scale("producer", producers)
        return settlement

    def install_operator(self, *, like: str = "", on: str = "") -> None:
        """A pod that waits for commands: the one of deploy/verify, standing still; or one that
        reaches Redis and the warehouse as the pods of a service do; on any node, or on one. Its
        Redis user is the operator's, who may set the clock."""
        if like:
            spec = self.namespace.get(*self.workloads[like].split("/"))["spec"]["template"]["spec"]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                del spec["containers"][0][probe]
        else:
            spec = audit_job(self.images, self.namespace)["spec"]["template"]["spec"]
        spec |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
        if on:
            spec["nodeSelector"] = {"kubernetes.io/hostname": on}
        for variable in spec["containers"][0]["env"]:
            if variable["name"] in OPERATOR_KEYS:
                variable["valueFrom"]["secretKeyRef"]["key"] = OPERATOR_KEYS[variable["name"]]
        spec["containers"][0] |= {
            "image": self.images.of("hourglassctl"),
            "command": ["python", "-c", "import signal; signal.pause()"],
            "args": [],
        }
        metadata = {"name": OPERATOR, "labels": {"app.kubernetes.io/name": OPERATOR}}
        self.namespace.apply(
            {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        )
        self.namespace.kubectl("wait", f"pod/{OPERATOR}", "--for=condition=Ready", "--timeout=180s")

    def hourglass(self, *arguments: str) -> str:
        """The operator's command, in the cluster. Raises ClusterError."""
        return self.namespace.exec(OPERATOR, "python", "-m", "hourglassctl", *arguments)

    def python(self, program: str, *arguments: str) -> Any:
        """What a Python program prints as JSON, run where the operator's command is."""
        return json.loads(self.namespace.exec(OPERATOR, "python", "-c", program, *arguments))

    def redis(self, *command: str) -> Any:
        """One Redis command."""
        return self.python(_COMMAND, *command)

    def run_clock(self, start: str = START, speed: float = SPEED) -> None:
        self.hourglass("clock", "run", "--from", start, "--speed", str(speed))

    def audit(self, *options: str) -> dict[str, Any]:
        """What `hourglass audit` finds, differences included."""
        return self._finding("audit", *options)

    def status(self) -> dict[str, Any]:
        """What `hourglass status` finds, well or not."""
        return self._finding("status")

    def _finding(self, *command: str) -> dict[str, Any]:
        """What a command finds that ends with 1 where something is wrong."""
        try:
            return json.loads(self.hourglass(*command, "--json"))
        except ClusterError as error:
            if not error.output.startswith("{"):
                raise
            return json.loads(error.output)

    def averages(self) -> list[dict[str, str]]:
        """What stands on `temps:averages`, in its order, each as its fields."""
        return self.python(_AVERAGES)

    def consumers(self) -> dict[str, list[str]]:
        """The names that each group knows, by stream."""
        names: dict[str, list[str]] = {}
        # From the service's own pod: its Redis user may read the streams that it consumes.
        for app, program in _CONSUMERS.items():
            (pod, *_) = self.namespace.ready_pods(app)
            names |= json.loads(self.namespace.exec(pod, "python", "-c", program))
        return names

    def rows(self) -> dict[str, list[int]]:
        """Count and sum (thousandths) of each hour in the warehouse."""
        (pod, *_) = self.namespace.ready_pods("averages-consumer")
        return json.loads(self.namespace.exec(pod, "python", "-c", _ROWS))

    def hours(self, since: str = START) -> list[str]:
        """The hours on `temps:averages` from `since` on."""
        return [each["hour_start"] for each in self.averages() if each["hour_start"] >= since]

    def samples(self, app: str) -> Sequence[Sample]:
        """The metrics of each of a service's ready pods."""
        return [
            Sample(pod, sample.name, sample.labels, sample.value)
            for pod in self.namespace.ready_pods(app)
            for family in text_string_to_metric_families(self.namespace.http(pod, "metrics"))
            for sample in family.samples
        ]

    def pod_of_today(self) -> str:
        """The Redis pod that holds the newest partition, which was the last to be written to."""
        newest = max(self.status()["partitions"], key=lambda each: each["stream"])
        return newest["shard"].partition(".")[0]

    def is_counted(self) -> bool:
        """Whether no reading waits for an aggregator."""
        return all(each["lag"] == each["pending"] == 0 for each in self.status()["partitions"])

    def total(self, app: str, name: str) -> float:
        """A metric's sum over pods and labels."""
        return sum(sample.value for sample in self.samples(app) if sample.name == name)

    def await_averages(self, more: int = 1) -> None:
        """Until `more` hours more are published than now."""
        goal = self._published_until() + timedelta(hours=more)
        await_on_cluster(lambda: self._published_until() >= goal, f"no {more} averages more")

    def _published_until(self) -> datetime:
        until = self.status()["published_until"]
        return datetime.fromisoformat(until or START)


def each_hour(first: str, last: str) -> list[str]:
    """Every hour from one to another, both included."""
    start, end = datetime.fromisoformat(first), datetime.fromisoformat(last)
    count = (end - start) // timedelta(hours=1) + 1
    return [f"{start + timedelta(hours=n):%Y-%m-%dT%H:%M:%SZ}" for n in range(count)]


def await_on_cluster(predicate: Callable[[], T], message: str, timeout_s: float = PATIENCE_S) -> T:
    """The first true value. A command that is refused meanwhile is tried again: pods come and go
    between a list and a request."""
    refusals: list[str] = [""]

    def tried() -> T | None:
        try:
            return predicate()
        except ClusterError as error:
            refusals.append(f"; {error}")
            return None

    try:
        value = wait_until(tried, timeout_s, message, every_s=0.5)
    except AssertionError as error:
        raise AssertionError(f"{error}{refusals[-1]}") from None
    assert value is not None
    return value


def audit_job(images: Images, namespace: Namespace) -> Manifest:
    """deploy/verify/audit.yaml with the image filled in, as Skaffold does it, and moved."""
    job: Manifest = yaml.safe_load((ROOT / "deploy/verify/audit.yaml").read_text())
    job["metadata"]["namespace"] = namespace.name
    job["spec"]["template"]["spec"]["containers"][0]["image"] = images.of("hourglassctl")
    return job


def _asking(body: str) -> str:
    """A program for a pod of the project's, that prints what `body` makes of `cluster`."""
    return f"""
import json, sys
from hourglass.model.averages import HourlyAverage
from hourglass.model.clock import PipelineClock
from hourglass.model.keys import AVERAGES_GROUP, GROUP
from hourglass.cluster.partitions import candidates
from hourglass.service.cli import add_command, application, invoke
from hourglass.service.config import RedisSettings

def ask(settings: RedisSettings) -> None:
    cluster = settings.connect()
{indent(dedent(body), "    ")}
    print(json.dumps(answer))

app = application()
add_command(app, RedisSettings, ask)
invoke(app, "ask", [])
"""


_COMMAND = _asking("""
    reply = cluster.call(*sys.argv[1:])
    answer = reply.decode() if isinstance(reply, bytes) else reply
""")
_AVERAGES = _asking("""
    entries = cluster.call("XRANGE", cluster.keyspace.averages, "-", "+")
    answer = [HourlyAverage.decode(*entry).fields() for entry in entries]
""")
_CONSUMERS = {
    "aggregator": _asking("""
        streams = [each.stream for each in candidates(cluster, PipelineClock(cluster).refresh())]
        answer = {
            stream: [each["name"].decode() for each in
                     cluster.call("XINFO CONSUMERS", stream, GROUP)]
            for stream in streams if cluster.call("EXISTS", stream)
        }
    """),
    "averages-consumer": _asking("""
        infos = cluster.call("XINFO CONSUMERS", cluster.keyspace.averages, AVERAGES_GROUP)
        answer = {cluster.keyspace.averages: [each["name"].decode() for each in infos]}
    """),
}
#: For a pod of the averages consumer, which is where an SQLite warehouse is.
_ROWS = """
import json, os
from averages_consumer.warehouse import Warehouse
from hourglass.model.keys import iso
with Warehouse(os.environ["HOURGLASS_WAREHOUSE_URL"]) as warehouse:
    rows = warehouse.rows(0, 1 << 43)
    print(json.dumps({iso(row.start_ms): [row.observations, row.sum_milli_f] for row in rows}))
"""
