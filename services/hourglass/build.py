"""What runs: its version, and a metric that others are joined with."""

from __future__ import annotations

import os
import platform
from importlib import metadata

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
        version(),
        os.environ.get("HOURGLASS_REVISION", ""),
        platform.python_version(),
    ).set(1)


def version() -> str:
    """HOURGLASS_VERSION, which an image has in place of the package's metadata, or the latter's."""
    if given := os.environ.get("HOURGLASS_VERSION"):
        return given
    try:
        return metadata.version("hourglass")
    except metadata.PackageNotFoundError:
        return "unknown"
