"""The page's files: its own, and uPlot exactly as it was released."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from averages_consumer.web import app
from hourglass.errors import ConfigurationError

FILES = app.load_assets()
INDEX = FILES["index.html"].body.decode()


def test_the_page_names_only_files_that_are_there_and_none_from_elsewhere() -> None:
    named = set(re.findall(r'(?:src|href)="([^"#]+)"', INDEX))
    imported = {
        f"assets/{name}"
        for asset in FILES.values()
        for name in re.findall(r'(?:from |import\()"\./([^"]+)"', asset.body.decode())
    }

    files = {name.removeprefix("assets/") for name in named | imported if name[:4] != "api/"}
    assert files | {"index.html"} == set(FILES)


def test_no_script_and_no_style_stands_in_the_page() -> None:
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|javascript:", INDEX)


def test_files_are_of_the_kinds_that_browsers_take() -> None:
    kinds = {Path(name).suffix: asset.media_type for name, asset in FILES.items()}

    assert kinds == {
        ".html": "text/html",
        ".css": "text/css",
        ".js": "text/javascript",
        ".svg": "image/svg+xml",
    }


def test_uplot_is_the_release_it_says_it_is() -> None:
    assert b"uPlot (v1.6.31)" in FILES["uplot.js"].body[:80]


def test_another_uplot_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = app.UPLOT["uplot.js"]
    monkeypatch.setattr(app, "UPLOT", {"uplot.js": (path, app.integrity_of(b"another"))})

    with pytest.raises(ConfigurationError, match="install the locked version of youplot"):
        app.load_assets()


def test_a_missing_uplot_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_CARRIER", "no-such-package")

    with pytest.raises(ConfigurationError, match="which draws the page's charts"):
        app.load_assets()


@pytest.mark.parametrize("name", [name for name in FILES if name in ("page.js", "show.js")])
def test_what_others_write_is_shown_as_text(name: str) -> None:
    script = FILES[name].body.decode()

    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", script)
