"""What runs: version and revision, as a metric that others are joined with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry

from hourglass.instruments import Instrument

BUILD = Instrument(
    name="hourglass_build_info",
    kind="gauge",
    help="1, with what runs as labels: pipeline is the pipeline it belongs to, revision the commit "
    "that an image was built from, empty elsewhere.",
    unit="1",
    labels=("component", "pipeline", "version", "revision", "python"),
    across="each",
)


def show_build(registry: CollectorRegistry, service: str, pipeline: str) -> None:
    BUILD.gauge(registry).labels(
        service,
        pipeline,
        _version(),
        os.environ.get("HOURGLASS_REVISION", ""),
        platform.python_version(),
    ).set(1)


def _version() -> str:
    """An image carries the packages without their metadata, and its version in the environment."""
    if said := os.environ.get("HOURGLASS_VERSION"):
        return said
    try:
        return version("hourglass")
    except PackageNotFoundError:
        return "unknown"
