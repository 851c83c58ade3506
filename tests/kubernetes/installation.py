"""Hourglass on the cluster: installed by `make up`, seen through its pods, asked by the operator's
command in a pod of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.kubernetes.cluster import ClusterError, Manifest, Namespace, run
from tests.waiting import wait_until

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
#: A generous wait for what should take seconds: machines are slow, and kubelets take their time.
PATIENCE_S = 180.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Where the cluster pulls from, as `make` is told it."""

    registry: str
    tag: str
    redis_registry: str

    @classmethod
    def from_environment(cls) -> Images | None:
        """None if nobody said which images to install: then nothing is to be installed."""
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
class Installation:
    """One `make up`. Its names of releases are the charts'."""

    namespace: Namespace
    images: Images

    def make(self, target: str, **variables: str) -> None:
        """`make up` or `make down`, from outside of any make."""
        outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        told = {
            "NAMESPACE": self.namespace.name,
            "REGISTRY": self.images.registry,
            "TAG": self.images.tag,
            "REDIS_REGISTRY": self.images.redis_registry,
            **variables,
        }
        arguments = [f"{name}={value}" for name, value in told.items()]
        run("make", "--directory", str(ROOT), target, *arguments, env=outer)

    def upgrade(self, chart: str, **values: str) -> None:
        """`helm upgrade` as `make up` does it, with values over those of the environment."""
        flags = " ".join(f"--set {key}={value}" for key, value in values.items())
        self.make("up", CHARTS=chart, HELM_FLAGS=flags)

    def install_operator(self) -> None:
        """A pod that waits for commands: the one of deploy/verify, standing still."""
        spec = audit_job(self.images)["spec"]["template"]["spec"]
        spec["terminationGracePeriodSeconds"] = 0
        spec["containers"][0] |= {
            "name": OPERATOR,
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

    def run_clock(self, start: str = START, speed: float = SPEED) -> None:
        self.hourglass("clock", "run", "--from", start, "--speed", str(speed))

    def audit(self, *options: str) -> dict[str, Any]:
        """What `hourglass audit` finds, differences included."""
        try:
            return json.loads(self.hourglass("audit", "--json", *options))
        except ClusterError as error:
            if not error.output.startswith("{"):
                raise
            return json.loads(error.output)

    def status(self) -> dict[str, Any]:
        return json.loads(self.hourglass("status", "--json"))

    def averages(self) -> list[dict[str, str]]:
        """What stands on `temps:averages`, in its order, each as its fields."""
        return self.python(_AVERAGES)

    def samples(self, app: str) -> Sequence[Sample]:
        """The metrics of each of a service's ready pods."""
        return [
            Sample(pod, sample.name, sample.labels, sample.value)
            for pod in self.namespace.ready_pods(app)
            for family in text_string_to_metric_families(self.namespace.http(pod, "metrics"))
            for sample in family.samples
        ]

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


def await_on_cluster(predicate: Callable[[], T], message: str, timeout_s: float = PATIENCE_S) -> T:
    """The first true value. A command that is refused meanwhile is tried again: pods come and go
    between being listed and being asked."""
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


def audit_job(images: Images) -> Manifest:
    """deploy/verify/audit.yaml with the image filled in, as Skaffold does it."""
    job: Manifest = yaml.safe_load((ROOT / "deploy/verify/audit.yaml").read_text())
    job["spec"]["template"]["spec"]["containers"][0]["image"] = images.of("hourglassctl")
    return job


_AVERAGES = """
import json
from hourglass.averages import HourlyAverage
from hourglass.keys import AVERAGES
from hourglass.settings import RedisSettings, add_command, application, invoke

def show(settings: RedisSettings) -> None:
    entries = settings.connect().call("XRANGE", AVERAGES, "-", "+")
    print(json.dumps([HourlyAverage.decode(*entry).fields() for entry in entries]))

app = application()
add_command(app, RedisSettings, show)
invoke(app, "averages", [])
"""
