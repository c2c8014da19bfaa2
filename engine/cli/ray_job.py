"""``crowd count --manifest FILE --out DIR --ray ADDRESS``: the same job on a Ray cluster."""

from __future__ import annotations

import argparse
import itertools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.bundle.bundle import load_bundle
from engine.cli.job_options import reading
from engine.cli.job_output import job_head
from engine.cli.job_source import JobSource, fetch_limits
from engine.cli.terminal import Status, say
from engine.errors import ConfigError
from engine.jobs.journal import Journal
from engine.jobs.parquet import import_parquet
from engine.jobs.parts import open_job

if TYPE_CHECKING:
    from engine.zones.layout import ZoneLayout

# Rows of a part: what one failure makes a machine count again.
_PART_ROWS = 1000
_MANIFEST = "_manifest"
# What counts depend on; what "auto" and "default" are is decided on each machine.
_SETTINGS = ("device", "backend", "compute_type", "performance", "steps", "samples", "seed")


def run(options: argparse.Namespace, layout: ZoneLayout | None, source: JobSource) -> int:
    """Count; 0, or 1 where a picture could not be counted, which is a row with its error."""
    if options.manifest is None or options.out is None:
        raise ConfigError("--ray counts a manifest into Parquet parts; name both: --manifest FILE --out DIR")
    if reading(options):
        raise ConfigError("--page and --no-exif-orientation do not go with --ray; leave them out, or --ray")
    # Before a folder is made: it may not be installed, and is told not to report its use.
    from engine.ray import CHECKPOINT, count_manifest

    import ray  # isort: skip

    settings = {"model": load_bundle(options.model).digest} | {name: getattr(options, name) for name in _SETTINGS}
    head = job_head(settings, layout) | source.identity() | {"ray": True}
    out = Path(options.out).resolve()
    with open_job(out, head, options.resume) as journal:
        if done := next((row for row in journal.rows() if "done" in row), None):
            _check_rows(out, done["rows"])
            say("everything is done already")
            return Status.OK
        part_rows = options.part_rows or _PART_ROWS
        _write_manifest(source, out / _MANIFEST, journal, part_rows)
        ray.init(options.ray, log_to_driver=False, **_init_options(options.ray))
        count_manifest(out / _MANIFEST, out, part_rows, **_counting(options, layout))
        rows = _count_rows(out / _MANIFEST)
        _check_rows(out, rows)
        journal.append({"done": True, "rows": rows})
        for folder in (CHECKPOINT, _MANIFEST):
            shutil.rmtree(out / folder, ignore_errors=True)
    return Status.FAILED if _errors(out) else Status.OK


def _counting(options: argparse.Namespace, layout: ZoneLayout | None) -> dict[str, Any]:
    """Arguments of ``engine.ray.count_dataset``."""
    counter = {name: getattr(options, name) for name in ("model", *_SETTINGS)}
    cpus = max(1, options.threads)
    return {
        "counter": counter | {"cpu_threads": cpus},
        "zones": layout,
        "num_cpus": cpus,
        "num_gpus": 1 if options.device.startswith("cuda") else 0,
        "concurrency": (1, 1 if options.actors is None else options.actors),
        "limits": fetch_limits(options),
    }


def _init_options(address: str) -> dict[str, Any]:
    # A cluster for this job alone needs no page.
    return {"include_dashboard": False} if address == "local" else {}


def _write_manifest(source: JobSource, folder: Path, journal: Journal, part_rows: int) -> None:
    """The pictures as Ray reads them: a file of ids and addresses for each part. It is written once for a job."""
    if any("manifest" in row for row in journal.rows()):
        return
    import pyarrow as pa

    parquet = import_parquet()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    entries = source.entries(0)
    for number in itertools.count():
        part = list(itertools.islice(entries, part_rows))
        if not part:
            break
        # Bytes of a file name that are no text cannot be in a table.
        columns = {"id": [entry.id for entry in part], "uri": [entry.file for entry in part]}
        table = pa.table(columns, schema=pa.schema({"id": pa.int64(), "uri": pa.string()}))
        parquet.write_table(table, folder / f"{number:07}.parquet")
    _check_ids(folder)
    journal.append({"manifest": number})


def _check_ids(folder: Path) -> None:
    """Ids tell what is done: refuse those that are there twice."""
    import numpy as np
    import pyarrow.dataset

    ids = pyarrow.dataset.dataset(folder).to_table(columns=["id"]).column("id").to_numpy()
    ids = np.sort(ids)
    if (twice := ids[1:][ids[1:] == ids[:-1]]).size:
        raise ConfigError(
            f"the id {twice[0]} is there twice; ids are each picture's own: leave out --id to number them"
        )


def _check_rows(out: Path, rows: int) -> None:
    """Refuse parts that were taken away or put there: Ray counts nothing again that its checkpoints have."""
    if (there := _count_rows(out)) != rows:
        raise ConfigError(
            f"the parts in {out} have {there} rows, and the job in it has {rows} pictures; put all its parts back, and "
            "take them when it is done, or give a new folder"
        )


def _count_rows(folder: Path) -> int:
    import pyarrow.dataset

    rows: int = pyarrow.dataset.dataset(folder, format="parquet").count_rows()
    return rows


def _errors(out: Path) -> int:
    import pyarrow.dataset

    there = pyarrow.dataset.field("error").is_valid()
    errors: int = pyarrow.dataset.dataset(out, format="parquet").count_rows(filter=there)
    return errors
