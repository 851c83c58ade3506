"""The version of the running program, and the info metric that shows it."""

from __future__ import annotations

import os
import platform
from importlib import metadata

from prometheus_client import CollectorRegistry

from hourglass.metrics import MetricSpec

BUILD = MetricSpec(
    name="hourglass_build_info",
    kind="gauge",
    help="Always 1; the labels describe the process. pipeline is its pipeline, revision the commit "
    "that its image was built from, empty outside an image.",
    unit="1",
    labels=("component", "pipeline", "version", "revision", "python"),
    across="each",
)


def show_build(registry: CollectorRegistry, service: str, pipeline: str) -> None:
    BUILD.gauge(registry).labels(
        service,
        pipeline,
        version(),
        os.environ.get("HOURGLASS_REVISION", ""),
        platform.python_version(),
    ).set(1)


def version() -> str:
    """The version: HOURGLASS_VERSION, which an image sets, or else the package's metadata."""
    if given := os.environ.get("HOURGLASS_VERSION"):
        return given
    try:
        return metadata.version("hourglass")
    except metadata.PackageNotFoundError:
        return "unknown"
