"""`make release` sets one version everywhere, and closes the changelog's section."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tools import release
from tools.release import Refused

ROOT = Path(__file__).parents[2]
GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run([*GIT, *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with this one's versions, and something unreleased."""
    for variable in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{variable}_NAME", "test")
        monkeypatch.setenv(f"{variable}_EMAIL", "test@example.com")
    for path in (ROOT / "pyproject.toml", *(ROOT / "charts").glob("*/Chart.yaml")):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    release.set_version(tmp_path, "1.2.0")
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## Unreleased\n\n- A new thing.\n\n## 1.2.0 - 2025-01-01\n\n- First.\n",
        encoding="utf-8",
    )
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "Start")
    return tmp_path


def test_package_and_charts_name_one_version() -> None:
    assert len(release.versions(ROOT)) == 1


def test_a_release_is_one_commit_and_a_tag_with_one_version_everywhere(tree: Path) -> None:
    release.release(tree, "1.3.0")
    assert release.versions(tree) == {"1.3.0"}
    assert git(tree, "describe").strip() == "v1.3.0"
    assert git(tree, "log", "-1", "--format=%s").strip() == "Release 1.3.0"
    assert not git(tree, "status", "--porcelain")
    redis = (tree / "charts" / "redis-cluster-dev" / "Chart.yaml").read_text(encoding="utf-8")
    assert 'appVersion: "8"' in redis, "Redis has a version of its own"


def test_a_release_closes_the_section_of_what_is_unreleased(tree: Path) -> None:
    release.release(tree, "1.3.0")
    changelog = (tree / "CHANGELOG.md").read_text(encoding="utf-8")
    assert release.section(changelog, "1.3.0") == "- A new thing."
    assert release.section(changelog, "1.2.0") == "- First."
    with pytest.raises(Refused, match="nothing under"):
        release.close_section(changelog, "1.4.0", "2026-01-01")


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("1.3", "no version"),
        ("v1.3.0", "no version"),
        ("1.3.0rc1", "no version"),
        ("1.1.9", "before 1.2.0"),
    ],
)
def test_a_version_that_cannot_be_is_refused_and_changes_nothing(
    tree: Path, version: str, reason: str
) -> None:
    with pytest.raises(Refused, match=reason):
        release.release(tree, version)
    assert release.versions(tree) == {"1.2.0"}
    assert not git(tree, "tag")


def test_a_version_is_released_once(tree: Path) -> None:
    release.release(tree, "1.3.0")
    with pytest.raises(Refused, match="is a tag already"):
        release.refuse_unless_ready(tree, "1.3.0")


def test_a_tree_with_changes_is_not_released(tree: Path) -> None:
    (tree / "new").touch()
    with pytest.raises(Refused, match="has changes"):
        release.release(tree, "1.3.0")
