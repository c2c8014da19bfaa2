"""Make a release: sets the version, dates the changelog's news, commits and tags them, and prints them.

Usage: python .ci/release.py 0.2.0

It pushes nothing: ``git push --follow-tags`` does, and .github/workflows/wheels.yml then builds and publishes.
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
from pathlib import Path

# Where a checkout has them. Everything else reads the version there: CMake, `crowd doctor`, the server.
PROJECT, CHANGELOG = Path("pyproject.toml"), Path("CHANGELOG.md")
_VERSION = re.compile(r'(?<=^version = ")[^"]*(?="$)', re.MULTILINE)
_NEWS = re.compile(r"^## Unreleased\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)


class ReleaseError(Exception):
    """No release can be made; nothing was changed."""


def parse_version(text: str) -> tuple[int, ...]:
    """Three numbers.

    >>> parse_version("0.10.0") > parse_version("0.9.3")
    True
    """
    if not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", text):
        raise ReleaseError(f"a version is three numbers, such as 0.2.0; got {text!r}")
    return tuple(map(int, text.split(".")))


def set_version(project: str, version: str) -> str:
    """``pyproject.toml`` with a new version."""
    (old,) = _VERSION.findall(project)
    if parse_version(version) <= parse_version(old):
        raise ReleaseError(f"{version} is not after {old}, the version of {PROJECT}")
    return _VERSION.sub(version, project)


def date_news(changelog: str, version: str, day: datetime.date) -> tuple[str, str]:
    """The changelog with its unreleased news under the version, and the news."""
    found = _NEWS.search(changelog)
    news = found[1].strip() if found else ""
    if not re.search(r"^- ", news, re.MULTILINE):
        raise ReleaseError(f'{CHANGELOG} has nothing under "## Unreleased"; write there what is new')
    dated = f"## Unreleased\n\n## {version} - {day.isoformat()}\n\n{news}\n\n"
    return _NEWS.sub(lambda _: dated, changelog, count=1).rstrip() + "\n", news


def git(*words: str, stdin: str = "") -> str:
    """What a git command prints."""
    done = subprocess.run(("git", *words), input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"git {words[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def release(version: str) -> str:
    """Release the checkout in the working folder; the news, for people.

    Raises:
        ReleaseError: something is not committed, the version is not later, or there is no news.
    """
    if git("status", "--porcelain"):
        raise ReleaseError("something is not committed; commit it, or put it away")
    if git("tag", "--list", f"v{version}"):
        raise ReleaseError(f"there is a tag v{version} already")
    project = set_version(PROJECT.read_text("utf-8"), version)
    changelog, news = date_news(CHANGELOG.read_text("utf-8"), version, datetime.datetime.now(datetime.UTC).date())
    PROJECT.write_text(project, "utf-8")
    CHANGELOG.write_text(changelog, "utf-8")
    git("commit", "--all", "--message", f"Release {version}")
    # Otherwise its headings would be taken for comments.
    git("tag", "--annotate", f"v{version}", "--cleanup=whitespace", "--file=-", stdin=f"{version}\n\n{news}\n")
    return news


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="of the release, such as 0.2.0")
    try:
        print(release(parser.parse_args().version))
    except ReleaseError as error:
        sys.exit(f"release: {error}")


if __name__ == "__main__":
    main()
