"""Skaffold as deploy/README describes it: run, verify, dev with a change, delete, profiles."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest
import yaml

from tests.charts.helm import helms
from tests.kubernetes.cluster import Manifest, Namespace, has_kind, run
from tests.kubernetes.installation import ROOT, SERVICES, WORKLOADS, Images, await_on_cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(1800)]

#: The one that skaffold.yaml names.
NAMESPACE = "hourglass"
REDIS = "redis-cluster-dev"


class Skaffold:
    """Skaffold on a copy of the sources, which a test may change."""

    def __init__(self, sources: Path, registry: str, helm: Path) -> None:
        self.sources = sources
        self._flags = ("--default-repo", registry) if registry else ()
        path = f"{helm.parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "SKAFFOLD_UPDATE_CHECK": "false"}

    def __call__(self, command: str, *flags: str) -> str:
        """What one command prints, warnings included."""
        return run(
            "sh", "-c", 'cd "$0" && exec "$@" 2>&1', str(self.sources),
            *self._command(command, *flags),
            env=self._environment,
        )  # fmt: skip

    def start(self, command: str, *flags: str) -> subprocess.Popen[bytes]:
        with (self.sources / "skaffold.log").open("wb") as log:
            return subprocess.Popen(
                self._command(command, *flags),
                cwd=self.sources,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _command(self, command: str, *flags: str) -> tuple[str, ...]:
        repository = () if command in ("verify", "delete") else self._flags
        return ("skaffold", command, *repository, *flags)


@pytest.fixture(scope="module")
def skaffold(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Generator[Skaffold]:
    """Nothing is left of it in the end."""
    if shutil.which("skaffold") is None:
        pytest.skip("skaffold is not on PATH")
    helm = next((each for each in helms() if each.version.startswith("v3")), None)
    if helm is None:
        pytest.skip("Skaffold needs Helm 3")
    sources = tmp_path_factory.mktemp("skaffold") / "hourglass"
    sources.mkdir()
    for file in run("git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard").splitlines():
        if (ROOT / file).exists():
            (sources / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, sources / file, follow_symlinks=False)
    # As `make images` builds: the engine may have no network of its own.
    if "--network host" in os.environ.get("DOCKER_BUILD_FLAGS", ""):
        file = sources / "skaffold.yaml"
        configs = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
        for artifact in (a for each in configs for a in each["build"]["artifacts"]):
            artifact["docker"]["network"] = "host"
        file.write_text(yaml.safe_dump_all(configs), encoding="utf-8")
    namespace = Namespace(NAMESPACE)
    if namespace.exists:
        pytest.fail(f"namespace {NAMESPACE} exists already", pytrace=False)
    try:
        yield Skaffold(sources, images.registry, helm.binary)
    finally:
        namespace.delete()


def ready(namespace: Namespace) -> set[str]:
    return {app for app in WORKLOADS if namespace.ready_pods(app)}


def test_run_deploys_everything_from_the_sources(skaffold: Skaffold) -> None:
    printed = skaffold("run")
    assert "is not used" not in printed
    await_on_cluster(lambda: ready(Namespace(NAMESPACE)) == {*WORKLOADS}, "not everything is ready")


def test_verify_runs_the_audit(skaffold: Skaffold) -> None:
    skaffold("build", "--file-output", "images.json")
    assert "audit" in skaffold("verify", "-a", "images.json")


def test_dev_replaces_the_service_whose_source_changes(skaffold: Skaffold) -> None:
    namespace = Namespace(NAMESPACE)
    before = images_of(namespace)
    following = skaffold.start("dev", "--port-forward=off", "--cleanup=false")
    log = skaffold.sources / "skaffold.log"
    try:
        await_on_cluster(
            lambda: "Watching for changes" in log.read_text("utf-8"), "skaffold does not watch"
        )
        source = skaffold.sources / "services" / "aggregator" / "__main__.py"
        source.write_text(source.read_text("utf-8") + "\n# changed\n", encoding="utf-8")

        def replaced() -> set[str]:
            return {app for app, image in images_of(namespace).items() if image != before.get(app)}

        await_on_cluster(lambda: "aggregator" in replaced(), "no pod has the change")
    finally:
        following.send_signal(signal.SIGINT)
        following.wait(timeout=120)


def created(pod: Manifest) -> str:
    return pod["metadata"]["creationTimestamp"]


def images_of(namespace: Namespace) -> dict[str, str]:
    """The image of the newest ready pod of each service."""
    return {
        app: max(pods, key=created)["spec"]["containers"][0]["image"]
        for app in SERVICES
        if (pods := namespace.pods(app))
    }


def test_delete_removes_the_releases(skaffold: Skaffold) -> None:
    skaffold("delete")
    await_on_cluster(lambda: not ready(Namespace(NAMESPACE)), "pods are left")


@pytest.mark.parametrize("profile", ["single-shard", "load", "monitoring"])
def test_a_profile_is_deployed(skaffold: Skaffold, profile: str) -> None:
    if profile == "monitoring" and not has_kind("podmonitors.monitoring.coreos.com"):
        pytest.skip("the cluster has no Prometheus Operator")
    skaffold("run", "--profile", profile)
    try:
        await_on_cluster(
            lambda: ready(Namespace(NAMESPACE)) == {*WORKLOADS}, "not everything is ready"
        )
    finally:
        skaffold("delete", "--profile", profile)
