"""What ``crowd count`` counts: the pictures that its arguments name, or those of a manifest."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine.cli.inputs import Pictures, find_pictures, read_picture
from engine.errors import ConfigError
from engine.jobs.fetch import FetchLimits
from engine.jobs.manifest import Manifest, check_listed
from engine.jobs.row import Entry


@dataclass(frozen=True)
class JobSource:
    """The pictures of a job.

    Attributes:
        pictures: what the arguments name; None for a manifest.
        entries: those from number n on.
        total: how many; None where that is not known.
        identity: gives which pictures they are and which ids they have, as the head of a journal: a job that counts
            rows goes on with the same ones alone.
    """

    pictures: Pictures | None
    entries: Callable[[int], Iterator[Entry]]
    total: int | None
    identity: Callable[[], dict[str, Any]]

    def read(self, picture: str | bytes) -> str | bytes:
        """What to hand to the counter for a path, or the bytes behind an address.

        Raises:
            ImageError: a manifest lists a device or pipe.
        """
        if self.pictures is not None:
            return read_picture(picture)
        if isinstance(picture, str):
            check_listed(picture)
        return picture


def fetch_limits(options: argparse.Namespace) -> FetchLimits:
    """Limits for addresses, as the options have them."""
    given = {name: getattr(options, name) for name in ("timeout", "max_bytes") if getattr(options, name) is not None}
    return FetchLimits(**given, allow_private=options.allow_private)


def open_source(options: argparse.Namespace) -> JobSource:
    """The pictures that the options name.

    Raises:
        ConfigError: there are none, or arguments beside a manifest, or something in the manifest is wrong.
    """
    if options.manifest is None:
        if not options.inputs:
            raise ConfigError("nothing to count; name pictures, folders or patterns, or --manifest FILE")
        pictures = find_pictures(options.inputs)
        return JobSource(
            pictures,
            lambda start: (Entry(start + i, path) for i, path in enumerate(pictures.paths[start:])),
            len(pictures.paths),
            lambda: {"pictures": _digest(pictures.paths)},
        )
    if options.inputs:
        raise ConfigError("--manifest takes the place of INPUT; put the other pictures into the manifest")
    if options.save or options.save_map or options.annotations:
        raise ConfigError("--save, --save-map and --annotations are for pictures named as INPUT, not for a manifest")
    manifest = Manifest(options.manifest, options.column, options.id)
    manifest.check()
    return JobSource(
        None,
        manifest.entries,
        manifest.count(),
        lambda: {"pictures": manifest.digest(), "column": manifest.column, "id": manifest.id},
    )


def _digest(paths: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(paths).encode("utf-8", "surrogateescape")).hexdigest()
