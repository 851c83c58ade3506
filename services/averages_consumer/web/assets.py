"""The files of the page: its own from `static`, and uPlot, which draws the charts.

uPlot is published on npm only; two of its files are read from a PyPI package that contains them.
That package is never imported. Each file must match the hash of uPlot's release, so that a changed
package cannot change the page.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha384
from importlib import metadata, resources
from pathlib import Path

from averages_consumer.web.document_store import etag_of
from hourglass.errors import ConfigurationError

#: Path and integrity (https://www.w3.org/TR/sri-2/) of each file, from dist/ of
#: https://www.npmjs.com/package/uplot/v/1.6.31
UPLOT: Mapping[str, tuple[str, str]] = {
    "uplot.js": (
        "youplot/vendor/uplot.iife.min.js",
        "sha384-XMP23k7YSCFr13Xrkxh4IO0v1W+8fB6AP+3Vycxphp2Z0V2vocAZHyuGaFCysrtM",
    ),
    "uplot.css": (
        "youplot/vendor/uplot.min.css",
        "sha384-IfV0B7MIOYuO95kO9G5ySKPz/85zqFNOAs8iy4tkK5zd9izhJAB8b7lHrwYqqmYE",
    ),
}
_CARRIER = "youplot"
_MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file with its response headers."""

    body: bytes
    media_type: str
    etag: str


def load() -> Mapping[str, Asset]:
    """The files, by their names in the page's URLs. Raises ConfigurationError."""
    files = {
        each.name: each.read_bytes()
        for each in resources.files("averages_consumer.web").joinpath("static").iterdir()
    }
    files |= {name: _carried(path, integrity) for name, (path, integrity) in UPLOT.items()}
    return {
        name: Asset(body, _MEDIA_TYPES[Path(name).suffix], etag_of(body))
        for name, body in files.items()
    }


def integrity_of(body: bytes) -> str:
    return f"sha384-{b64encode(sha384(body).digest()).decode()}"


def _carried(path: str, integrity: str) -> bytes:
    try:
        body = Path(str(metadata.distribution(_CARRIER).locate_file(path))).read_bytes()
    except (metadata.PackageNotFoundError, OSError):
        body = b""
    if integrity_of(body) != integrity:
        raise ConfigurationError(
            f"{path}, which draws the page's charts, is missing or modified: install the locked "
            f"version of {_CARRIER}, or set HOURGLASS_WEB=false to turn the page off"
        )
    return body
