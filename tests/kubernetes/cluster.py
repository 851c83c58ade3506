"""The Kubernetes cluster that kubectl reaches, through kubectl's and Helm's own commands."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from tests.support.waiting import wait_until

Manifest: TypeAlias = dict[str, Any]

#: No single command takes longer, waiting for a rollout included.
COMMAND_S = 360.0


class ClusterError(RuntimeError):
    """The error message of kubectl or helm; `output` is its standard output."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class Refused(ClusterError):
    """A disruption budget does not allow the eviction now (status 429)."""


def run(
    *command: str,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    within_s: float = COMMAND_S,
) -> str:
    """What a command prints. Raises ClusterError."""
    try:
        done = subprocess.run(
            command,
            input=stdin,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=within_s,
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{' '.join(command)}: not done within {within_s:.0f} s") from None
    if done.returncode:
        message = done.stderr.strip()[-3000:]
        raise ClusterError(f"{' '.join(command)[:300]}: {message}", done.stdout)
    return done.stdout


def kubectl(*arguments: str, stdin: str = "") -> str:
    return run("kubectl", *arguments, stdin=stdin)


def helm_major() -> int:
    return int(run("helm", "version", "--short").lstrip("v").partition(".")[0])


def no_cluster() -> str:
    """Why nothing can be installed; empty if it can."""
    for tool in ("kubectl", "helm"):
        if shutil.which(tool) is None:
            return f"{tool} is not on PATH"
    try:
        kubectl("get", "--raw", "/readyz", "--request-timeout=20s")
    except ClusterError as error:
        return f"kubectl reaches no cluster ({error})"
    return ""


def has_kind(resource: str) -> bool:
    """Whether the cluster knows `resource`, podmonitors.monitoring.coreos.com for instance."""
    name, _, group = resource.partition(".")
    known = kubectl("api-resources", "--api-group", group, "--no-headers", "--output", "name")
    return f"{name}.{group}" in known.split()


def serves(group: str) -> bool:
    """Whether an extension serves an API group, metrics.k8s.io for
    instance."""
    services = json.loads(kubectl("get", "apiservices", "--output", "json"))["items"]
    return any(
        condition["type"] == "Available" and condition["status"] == "True"
        for service in services
        if service["spec"].get("group") == group
        for condition in service.get("status", {}).get("conditions", [])
    )


#: Keeps a deleted pod from being replaced.
HELD = "hourglass.test/held"


@dataclass(frozen=True, slots=True)
class Namespace:
    """One namespace, and what is in it. `helm_binary`: what its releases are installed with."""

    name: str
    helm_binary: str = "helm"

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return kubectl("--namespace", self.name, *arguments, stdin=stdin)

    def helm(self, *arguments: str) -> str:
        return run(self.helm_binary, "--namespace", self.name, *arguments)

    @property
    def exists(self) -> bool:
        return bool(kubectl("get", "namespace", self.name, "--ignore-not-found"))

    def create(self, **labels: str) -> None:
        metadata = {"name": self.name, "labels": labels}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def delete(self) -> None:
        """With all that is in it; returns when it is gone."""
        kubectl("delete", "namespace", self.name, "--ignore-not-found", "--timeout=300s")

    def apply(self, *manifests: Manifest) -> None:
        self.kubectl("apply", "--filename", "-", stdin=yaml.safe_dump_all(manifests))

    def get(self, kind: str, name: str) -> Manifest:
        found: Manifest = json.loads(self.kubectl("get", kind, name, "--output", "json"))
        return found

    def list(self, kind: str, **labels: str) -> Sequence[Manifest]:
        """Of `kind`, those with these labels; `name` stands for app.kubernetes.io/name."""
        selector = ",".join(f"{_label(key)}={value}" for key, value in labels.items())
        listed = self.kubectl("get", kind, "--selector", selector, "--output", "json")
        return json.loads(listed)["items"]

    def pods(self, app: str) -> Sequence[Manifest]:
        """The pods of a chart's workload that are not on their way out."""
        listed = self.list("pods", name=app)
        return [pod for pod in listed if "deletionTimestamp" not in pod["metadata"]]

    def ready_pods(self, app: str) -> Sequence[str]:
        return [pod["metadata"]["name"] for pod in self.pods(app) if is_ready(pod)]

    def delete_pods(self, *which: str, at_once: bool = False) -> None:
        """Delete the pods of these names, or of `--selector …`; returns when they have gone, though
        others may have their names by then.

        kubectl's own wait may miss that a StatefulSet has replaced them.
        """

        def uids() -> set[str]:
            shown = ("--ignore-not-found", "--output", "jsonpath={..metadata.uid}")
            return set(self.kubectl("get", "pods", *which, *shown).split())

        before = uids()
        flags = ("--force", "--grace-period=0") if at_once else ()
        self.kubectl("delete", "pod", *which, *flags, "--wait=false")
        wait_until(lambda: not before & uids(), COMMAND_S, f"{' '.join(which)}: not deleted")

    def exec(self, pod: str, *command: str, stdin: str = "") -> str:
        flags = ["--stdin"] if stdin else []
        return self.kubectl("exec", *flags, pod, "--", *command, stdin=stdin)

    def evict(self, pod: str) -> None:
        """As a drain of its node does. Raises Refused while the budget does not allow it."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": self.name},
        }
        path = f"/api/v1/namespaces/{self.name}/pods/{pod}/eviction"
        try:
            kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(eviction))
        except ClusterError as error:
            if "TooManyRequests" in str(error):
                raise Refused(str(error)) from None
            raise

    @contextmanager
    def held(self, *pods: str) -> Generator[None]:
        """Pods that are deleted meanwhile end, and others take their place only afterwards."""

        def hold(finalizers: Sequence[str] | None) -> None:
            patch = json.dumps({"metadata": {"finalizers": finalizers}})
            self.kubectl("patch", "pod", *pods, "--type=merge", "--patch", patch)

        hold([HELD])
        try:
            yield
        finally:
            hold(None)

    def http(self, pod: str, path: str, port: int = 8080) -> str:
        """What a pod answers, by way of the API server."""
        return kubectl(
            "get", "--raw", f"/api/v1/namespaces/{self.name}/pods/{pod}:{port}/proxy/{path}"
        )

    def everything(self) -> set[str]:
        """Every object that lives here, as kind/name; what happened and what is measured of it
        are no objects."""
        kinds = [
            kind
            for kind in _listable(namespaced=True)
            if not kind.startswith("events") and not kind.endswith(".metrics.k8s.io")
        ]
        return set(self.kubectl("get", ",".join(kinds), "--output", "name").split())

    def rolled_out(self, workload: str) -> None:
        """Wait until deployment/NAME or statefulset/NAME has its desired state and is ready."""
        self.kubectl("rollout", "status", workload, "--timeout=300s")

    def described(self) -> str:
        """Everything that may explain a failure."""
        parts = [self._tried("get", "all,pvc,pdb", "--output", "wide")]
        parts.append(self._tried("get", "events", "--sort-by=.lastTimestamp"))
        names = self._tried("get", "pods", "--output", "name").split()
        for name in names:
            parts.append(f"--- {name}")
            parts.append(
                self._tried("logs", name, "--all-containers", "--prefix", "--tail=40").strip()
            )
            if "restartCount: 0" not in self._tried("get", name, "--output", "yaml"):
                parts.append(self._tried("describe", name))
                parts.append(
                    self._tried("logs", name, "--all-containers", "--previous", "--tail=20")
                )
        return "\n".join(parts)

    def _tried(self, *arguments: str) -> str:
        try:
            return self.kubectl(*arguments)
        except ClusterError as error:
            return str(error)


def cluster_wide_of(namespace: Namespace) -> Sequence[str]:
    """The objects outside of namespaces that releases in this one made."""
    owner = r".metadata.annotations.meta\.helm\.sh/release-namespace"
    columns = f"custom-columns=KIND:.kind,NAME:.metadata.name,OWNER:{owner}"
    kinds = ",".join(_listable(namespaced=False))
    listed = kubectl("get", kinds, "--no-headers", "--output", columns).splitlines()
    return [line for line in listed if line.split()[-1] == namespace.name]


def _listable(*, namespaced: bool) -> Sequence[str]:
    scope = f"--namespaced={str(namespaced).lower()}"
    return kubectl("api-resources", "--verbs=list", scope, "--output", "name").split()


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _label(key: str) -> str:
    return "app.kubernetes.io/name" if key == "name" else key
