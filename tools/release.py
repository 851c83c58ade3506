"""`python -m tools.release VERSION`: set the version, close the changelog's section, commit, tag.

`make release VERSION=…` calls it once `make check` and `make test` have passed. It pushes nothing:
the tag is pushed by hand, and the tag's workflow publishes images and charts.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHANGELOG = Path("CHANGELOG.md")
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_UNRELEASED = "## Unreleased\n"

#: Where the version stands: the package, from which images and `--version` have it, and the charts.
_PLACES = {
    "pyproject.toml": r'^(version = ")[^"]*(")$',
    "charts/*/Chart.yaml": r"^((?:version|appVersion|    version): )\d+\.\d+\.\d+()$",
}


class Refused(Exception):
    """What keeps a release from being made, and the remedy."""


def versions(root: Path) -> set[str]:
    """Every version that the package and the charts name: one, if they agree."""
    found: set[str] = set()
    for pattern, line in _PLACES.items():
        for path in root.glob(pattern):
            text = path.read_text(encoding="utf-8")
            found |= {
                match[0][len(match[1]) : len(match[0]) - len(match[2])]
                for match in re.finditer(line, text, re.MULTILINE)
            }
    return found


def set_version(root: Path, version: str) -> None:
    for pattern, line in _PLACES.items():
        for path in root.glob(pattern):
            text = path.read_text(encoding="utf-8")
            path.write_text(
                re.sub(line, rf"\g<1>{version}\g<2>", text, flags=re.MULTILINE), encoding="utf-8"
            )


def close_section(changelog: str, version: str, date: str) -> str:
    """The changelog with what is unreleased under the version, and an empty section above it.

    Raises Refused if there is no such section, or nothing in it.
    """
    head, found, rest = changelog.partition(_UNRELEASED)
    unreleased = re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    if not found or not unreleased.strip():
        raise Refused(f"{CHANGELOG} has nothing under '{_UNRELEASED.strip()}': say what changed")
    return f"{head}{_UNRELEASED}\n## {version} - {date}\n{rest}"


def section(changelog: str, version: str) -> str:
    """What changed in a version, for the release's notes. Raises Refused if it has no section."""
    heading = rf"^## {re.escape(version)} - [^\n]*\n"
    found = re.search(rf"{heading}(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if not found:
        raise Refused(f"{CHANGELOG} has no section for {version}")
    return found[1].strip()


def refuse_unless_ready(root: Path, version: str) -> None:
    """Raises Refused unless the tree is committed, and the version valid, new and not the past."""
    if not _VERSION.fullmatch(version):
        raise Refused(f"{version!r} is no version: give MAJOR.MINOR.PATCH, such as 1.2.0")
    if _git(root, "status", "--porcelain"):
        raise Refused("the tree has changes: commit or stash them first")
    (now,) = versions(root)
    tags = _git(root, "tag", "--list").split()
    if f"v{version}" in tags:
        raise Refused(f"v{version} is a tag already: choose a later version")
    if _as_numbers(version) < _as_numbers(now):
        raise Refused(f"{version} comes before {now}, the current version: choose a later one")
    close_section((root / CHANGELOG).read_text(encoding="utf-8"), version, "")


def release(root: Path, version: str) -> None:
    """Commit and tag the version. Raises Refused, and changes nothing then."""
    refuse_unless_ready(root, version)
    set_version(root, version)
    changelog = root / CHANGELOG
    date = datetime.now(UTC).date().isoformat()
    closed = close_section(changelog.read_text(encoding="utf-8"), version, date)
    changelog.write_text(closed, encoding="utf-8")
    _git(root, "commit", "--quiet", "--all", "--message", f"Release {version}")
    _git(root, "tag", "--annotate", f"v{version}", "--message", f"Hourglass {version}")


def _as_numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _git(root: Path, *arguments: str) -> str:
    git = shutil.which("git") or "git"
    done = subprocess.run([git, *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=__doc__)
    parser.add_argument("version")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--ready", action="store_true", help="only see whether it could be made")
    what.add_argument("--notes", action="store_true", help="print what the changelog says of it")
    given = parser.parse_args()
    try:
        if given.notes:
            print(section((ROOT / CHANGELOG).read_text(encoding="utf-8"), given.version))
        elif given.ready:
            refuse_unless_ready(ROOT, given.version)
        else:
            release(ROOT, given.version)
            print(f"committed and tagged: git push --follow-tags publishes v{given.version}")
    except Refused as reason:
        sys.exit(f"release: {reason}")


if __name__ == "__main__":
    main()
