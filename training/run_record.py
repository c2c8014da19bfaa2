"""What a run was begun with. It lies beside the checkpoints, so that a run that goes on has the same."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.config import CountingRule
from engine.dataset.samples import Sample
from engine.errors import ConfigError
from engine.system.files import whole_file
from engine.training.config import TrainConfig

# The record of a whole run, and that of a fine-tuning.
RUN, FINE_TUNING = "run.json", "fine_tuning.json"
# Options that say what is trained on, and from where.
_KEPT = ("start", "exclude", "validate", "without_people", "annotations", "annotations_format", "label", "keep")
# Pictures and annotations, in the words of a message.
_KINDS = {"trained": "to train on", "held_out": "held out", "without_people": "without people"}


def read_record(out: Path) -> dict[str, Any]:
    """The record of the run in ``out``; empty if there is none.

    Raises:
        ConfigError: it cannot be read.
    """
    for name in (FINE_TUNING, RUN):
        if (out / name).is_file():
            try:
                record = json.loads((out / name).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise ConfigError(f"{out / name} cannot be read: {error}; begin a new run in another folder") from error
            if not isinstance(record, dict):
                raise ConfigError(f"{out / name} is no record of a run: begin a new run in another folder")
            return record
    return {}


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write ``record`` to ``path`` whole or not at all."""
    with whole_file(path) as part:
        part.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def kept_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options that a run that goes on is to have, as JSON has them; paths do not depend on the current folder."""
    kept = {name: getattr(options, name) or None for name in _KEPT if name != "exclude"}
    # Nothing behind --exclude means that no digit is left out.
    kept["exclude"] = options.exclude
    return {name: _plain(name, value) for name, value in kept.items()}


def recall(options: argparse.Namespace) -> bool:
    """Whether the run that ``options`` ask for is a fine-tuning.

    One that goes on gets the options that it was begun with, in place of those that are not given.

    Raises:
        ConfigError: there is a run that is not to go on, or one that was begun with other options.
    """
    out, record = options.out, read_record(options.out)
    is_tuning = (out / FINE_TUNING).is_file()
    is_whole = not is_tuning and any((out / name).is_file() for name in ("best.pt", "last.pt"))
    if not options.resume:
        if is_tuning or is_whole:
            kind = "fine-tuning" if is_tuning else "run"
            raise ConfigError(
                f"{out} holds a {kind} already, which this one would overwrite: resume it, or name another folder"
            )
        return bool(options.start and not options.recipe)
    if not (is_tuning or is_whole or record):
        print(f"{out} has no run to go on with; this one begins")
    known = record.get("options", {})
    for name, then in known.items():
        _recall_option(options, name, then)
    if is_tuning and options.recipe:
        raise ConfigError(
            f"the fine-tuning in {out} goes on with the settings that it was begun with: give no --recipe"
        )
    if is_whole and not known and options.start and not options.recipe:
        raise ConfigError(
            f"{out} holds a whole run, and --start begins a fine-tuning: leave --start out, or name another folder"
        )
    return is_tuning or bool(options.start and not options.recipe and not record and not is_whole)


def _recall_option(options: argparse.Namespace, name: str, then: Any) -> None:
    now = getattr(options, name)
    # Nothing behind --exclude is an option as well, and no --label is an empty list.
    is_given = now is not None and (name == "exclude" or now != [])
    # Nothing is trained on the pictures to keep: any may judge the model.
    if is_given and name != "keep" and _plain(name, now) != then:
        asked = f"--{name.replace('_', '-')}"
        begun = f"with {asked} {_words(then)}" if then not in (None, []) else f"without {asked}"
        raise ConfigError(
            f"the run in {options.out} was begun {begun}, not with {_words(_plain(name, now))}: leave it out to go on, "
            "or name another folder for a new run"
        )
    if not is_given and then is not None:
        is_path = name in ("without_people", "annotations", "keep")
        setattr(options, name, Path(then) if is_path else then)


def _plain(name: str, value: Any) -> Any:
    """An option as JSON has it."""
    if isinstance(value, Path):
        return os.path.abspath(value)
    return start_name(value) if name == "start" and value else value


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def start_name(start: str | Path) -> str:
    """``start`` as it is known in any folder: "default", or the path from the root."""
    return "default" if str(start) == "default" else os.path.abspath(start)


def list_pictures(samples: Sequence[Sample]) -> list[list[Any]]:
    """The name and the number of heads of each picture; the folder that all are below may move."""
    paths = [os.path.abspath(sample.image) for sample in samples]
    root = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    return [[os.path.relpath(path, root), len(x.points)] for path, x in zip(paths, samples, strict=True)]


def digest(scenes: Sequence[np.ndarray]) -> str:
    """What tells pictures without people from others."""
    found = hashlib.sha256()
    for scene in scenes:
        found.update(repr(scene.shape).encode() + np.ascontiguousarray(scene).tobytes())
    return found.hexdigest()


def refuse_others(out: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """See that a run goes on with the pictures ``then``: for each kind of them, those of :func:`list_pictures`.

    Raises:
        ConfigError: those ``now`` are others, or annotated otherwise.
    """
    for kind, listed in now.items():
        before = then.get(kind, [])
        if before == listed:
            continue
        old, new = ({tuple(x) for x in pictures} for pictures in (before, listed))
        names = sorted({str(name) for name, _ in old ^ new})
        raise ConfigError(
            f"the run in {out} was begun with {len(before)} pictures {_KINDS[kind]}, and now there are {len(listed)}; "
            f"{len(names)} of them are others or annotated otherwise ({', '.join(names[:3])}). Give the same pictures "
            "and annotations to go on, or name another folder for a new run: --start with a checkpoint of this one and "
            "--recipe go on from its weights"
        )


def settings(config: TrainConfig) -> dict[str, Any]:
    """``config`` as JSON has it."""
    table: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), allow_nan=False))
    return table


def rules_of(record: Mapping[str, Any]) -> dict[int, CountingRule]:
    """The counting rules of what a run was started from, by number of steps."""
    return {int(number): CountingRule(**rule) for number, rule in record.get("counting", {}).items()}
