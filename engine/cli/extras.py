"""Commands whose packages are an extra, and which extras this environment has."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata

from engine.cli.machine import read_versions
from engine.errors import EngineError

DISTRIBUTION = "crowd-engine"
# What users install one for; those of GPUs are told of with their backend.
EXTRAS = {
    "video": "videos and cameras",
    "heic": "HEIC pictures",
    "serve": "the server, its page, and zones drawn on it",
    "mqtt": "counts to a broker",
    "eval": "errors on annotated pictures",
    "batch": "Parquet and tables of millions of pictures",
    "cloud": "pictures at addresses",
    "ray": "a Ray cluster",
    "train": "training",
    "export": "models from checkpoints",
}


@dataclass(frozen=True)
class Extra:
    """An extra of this package: what it is for, and which of its packages are not installed."""

    name: str
    purpose: str
    missing: tuple[str, ...]

    def __str__(self) -> str:
        if not self.missing:
            return f"installed, for {self.purpose}"
        return f"missing, for {self.purpose}: pip install '{DISTRIBUTION}[{self.name}]'"


def check_extras(requirements: Sequence[str] | None = None) -> tuple[Extra, ...]:
    """The state of every extra in :data:`EXTRAS`; of none, where this package was not installed as one.

    Args:
        requirements: of this package, as its metadata has them; None reads those.
    """
    if requirements is None:
        if read_versions([DISTRIBUTION])[DISTRIBUTION] is None:
            return ()
        requirements = metadata.requires(DISTRIBUTION) or []
    return tuple(
        Extra(
            name,
            purpose,
            tuple(x for x, version in read_versions(_packages(requirements, name)).items() if not version),
        )
        for name, purpose in EXTRAS.items()
    )


def _packages(requirements: Sequence[str], extra: str) -> list[str]:
    """Names of the packages of an extra, and of the extras that it names; what one platform alone needs is left out."""
    found = []
    for requirement in requirements:
        needed, _, marker = requirement.partition(";")
        match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?.*", needed.strip())
        if match is None or not re.fullmatch(rf"""extra == ["']{extra}["']""", marker.strip()):
            continue
        if match[1] == DISTRIBUTION:
            found += [x for other in match[2].split(",") for x in _packages(requirements, other.strip())]
        else:
            found.append(match[1])
    return found


@contextlib.contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Around imports of what ``pip install 'crowd-engine[extra]'`` brings.

    Raises:
        EngineError: one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        # A missing module of our own is a broken install, which no extra mends.
        if (error.name or "engine").partition(".")[0] == "engine":
            raise
        message = f"this command needs {error.name}: pip install '{DISTRIBUTION}[{extra}]'"
        raise EngineError(message) from error
