"""``.ci/release.py``: one command makes a release, or refuses and changes nothing."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHANGELOG = """# Changelog

## Unreleased

### Added
- A door.

### Fixed
- A window.

## 0.1.0 - 2026-01-02
- A house.
"""


class Checkout:
    def __init__(self, path: Path):
        self.path = path

    def git(self, *words: str) -> str:
        done = subprocess.run(("git", *words), cwd=self.path, capture_output=True, text=True, check=True, env=self.env)
        return done.stdout

    @property
    def env(self) -> dict[str, str]:
        # Whatever the developer's own git is set to.
        people = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        return os.environ | people | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}

    def release(self, version: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, str(ROOT / ".ci" / "release.py"), version]
        return subprocess.run(words, cwd=self.path, capture_output=True, text=True, check=False, env=self.env)

    def read(self, name: str) -> str:
        return (self.path / name).read_text("utf-8")

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text, "utf-8")
        self.git("add", name)
        self.git("commit", "-qm", name)

    @property
    def version(self) -> str:
        return str(tomllib.loads(self.read("pyproject.toml"))["project"]["version"])


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A repository with the real pyproject.toml, of version 0.1.0."""
    made = Checkout(tmp_path)
    made.git("init", "-q")
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    made.write("pyproject.toml", re.sub(r'^version = ".*"$', 'version = "0.1.0"', project, flags=re.MULTILINE))
    made.write("CHANGELOG.md", CHANGELOG)
    return made


def test_a_release(checkout: Checkout) -> None:
    before = checkout.read("pyproject.toml")
    done = checkout.release("0.2.0")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "### Added\n- A door.\n\n### Fixed\n- A window.\n",
        "",
    )
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    assert checkout.read("CHANGELOG.md") == CHANGELOG.replace("Unreleased", f"Unreleased\n\n## 0.2.0 - {today}")
    assert checkout.version == "0.2.0"
    assert checkout.read("pyproject.toml") == before.replace('version = "0.1.0"', 'version = "0.2.0"', 1)
    assert checkout.git("status", "--porcelain") == ""
    assert checkout.git("log", "-1", "--format=%s", "v0.2.0") == "Release 0.2.0\n"
    assert checkout.git("cat-file", "-t", "v0.2.0") == "tag\n"
    contents = checkout.git("tag", "--list", "--format=%(contents)", "v0.2.0")
    assert contents.strip() == f"0.2.0\n\n{done.stdout}".strip()
    # The next one needs news of its own.
    assert "nothing under" in checkout.release("0.3.0").stderr


def test_the_repository_itself_could_be_released(checkout: Checkout) -> None:
    checkout.write("CHANGELOG.md", (ROOT / "CHANGELOG.md").read_text("utf-8"))
    done = checkout.release("10.0.0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n- ") > 0
    assert checkout.read("CHANGELOG.md").index("## Unreleased\n\n## 10.0.0 - ") < checkout.read("CHANGELOG.md").index(
        "- "
    )


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("0.1.0", "not after 0.1.0"),
        ("0.0.9", "not after 0.1.0"),
        ("0.2", "three numbers"),
        ("v0.2.0", "three numbers"),
        ("0.2.0rc1", "three numbers"),
        ("0.02.0", "three numbers"),
        ("", "three numbers"),
    ],
)
def test_a_version_that_is_none_or_not_later(checkout: Checkout, version: str, message: str) -> None:
    _refuses(checkout, version, message)


def test_something_is_not_committed(checkout: Checkout) -> None:
    (checkout.path / "new.txt").write_text("")
    _refuses(checkout, "0.2.0", "not committed")


@pytest.mark.parametrize("news", ["", "### Added\n", "Soon.\n"])
def test_no_news(checkout: Checkout, news: str) -> None:
    checkout.write("CHANGELOG.md", f"# Changelog\n\n## Unreleased\n\n{news}\n## 0.1.0 - 2026-01-02\n- A house.\n")
    _refuses(checkout, "0.2.0", "nothing under")


def test_a_tag_that_is_there(checkout: Checkout) -> None:
    checkout.git("tag", "v0.2.0")
    _refuses(checkout, "0.2.0", "a tag v0.2.0 already")


def _refuses(checkout: Checkout, version: str, message: str) -> None:
    def state() -> list[str]:
        return [checkout.git("rev-parse", "HEAD"), checkout.git("status", "--porcelain"), checkout.git("tag")]

    before = state()
    done = checkout.release(version)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert state() == before
