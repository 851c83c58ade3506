"""The files of the page. Its own lie in `static`; uPlot, which draws the charts, is on npm alone,
and comes within a package from PyPI that carries it.

Nothing of that package is imported: two of its files are read, and each must be, byte for byte,
what uPlot released. Whatever else might carry them one day, the page takes no others.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha384
from importlib import metadata, resources
from pathlib import Path

from averages_consumer.web.board import etag_of
from hourglass.errors import Misconfigured

#: https://www.npmjs.com/package/uplot/v/1.6.31, dist/: https://www.w3.org/TR/sri-2/ of each file
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
    """One file, as it is sent."""

    body: bytes
    media_type: str
    etag: str


def load() -> Mapping[str, Asset]:
    """The files by the names they have on the page. Raises Misconfigured."""
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
        raise Misconfigured(
            f"the page's charts cannot be drawn: {path} is not installed as it should be; install "
            f"{_CARRIER} as it is locked, or set HOURGLASS_WEB=false to do without the page"
        )
    return body
