"""What ``train``, ``calibrate`` and ``average`` write, which must be none of the files that they read."""

from __future__ import annotations

import argparse
from pathlib import Path

from engine.errors import ConfigError

# The files of a run, in its folder.
_OF_A_RUN = (
    "model.pt", "best.pt", "last.pt", "log.jsonl", "start.pt", "untuned.pt",
    "run.json", "fine_tuning.json", "verdict.json",
)  # fmt: skip
# Options whose files are read.
_READ = ("data", "annotations", "recipe", "start", "checkpoint")


def refuse_overwriting(options: argparse.Namespace) -> None:
    """Refuse an ``--out`` that would overwrite what the other options name.

    Raises:
        ConfigError: it would.
    """
    if options.command == "compare":
        return
    outputs = [options.out / name for name in _OF_A_RUN] if options.command == "train" else [options.out]
    given = [getattr(options, name, None) for name in _READ]
    inputs = [Path(path) for path in [*given, *getattr(options, "checkpoints", ())] if path is not None]
    written = {path.resolve() for path in outputs}
    for path in inputs:
        if path.is_file() and path.resolve() in written:
            raise ConfigError(f"--out {options.out} would overwrite {path}, which is an input; name another place")
