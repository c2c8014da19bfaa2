"""Rows -> Parquet parts of one schema; the rows of the part that is being filled are in a journal beside them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError, EngineError
from engine.jobs.journal import Journal
from engine.jobs.row import Row

if TYPE_CHECKING:
    import pyarrow

# Rows that are turned into Arrow at once: a thousand people each are some 40 MB.
_GROUP = 256
PART_ROWS = 10_000
# Readers of Parquet folders leave out files whose names begin so.
_JOURNAL = "_journal"


def schema() -> pyarrow.Schema:
    """Of every part, whatever was counted."""
    import pyarrow as pa

    point = pa.struct([("x", pa.float32()), ("y", pa.float32()), ("score", pa.float32())])
    zone = pa.struct([("name", pa.string()), ("count", pa.int32()), ("low", pa.int32()), ("high", pa.int32())])
    line = pa.struct([("name", pa.string()), ("left", pa.int32()), ("right", pa.int32())])
    return pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("uri", pa.string(), nullable=False),
            ("count", pa.int32()),
            ("low", pa.int32()),
            ("high", pa.int32()),
            ("points", pa.list_(point)),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("zones", pa.list_(zone)),
            ("lines", pa.list_(line)),
            ("warnings", pa.list_(pa.string())),
            ("error", pa.string()),
            ("model", pa.string()),
            ("seconds", pa.float32()),
        ]
    )


def arrow_table(rows: Iterable[Row], model: str) -> pyarrow.Table:
    """Rows as Arrow has them; ``model`` is the hash of the bundle."""
    import pyarrow as pa

    return pa.Table.from_pylist([_cells(row, model) for row in rows], schema=schema())


def _cells(row: Row, model: str) -> dict[str, Any]:
    # Bytes of a file name that are no text are escaped.
    uri = row.file.encode("utf-8", "backslashreplace").decode()
    cells: dict[str, Any] = {"id": row.id, "uri": uri, "error": row.error, "model": model, "seconds": row.seconds}
    if row.found is None:
        return cells
    found = row.found
    names = ("name", "count", "low", "high")
    points = zip(found["points"], found["scores"], strict=True)
    return cells | {
        "count": found["count"],
        "low": found["interval"][0],
        "high": found["interval"][1],
        "points": [{"x": x, "y": y, "score": score} for (x, y), score in points],
        "width": found["image_size"][0],
        "height": found["image_size"][1],
        "zones": [
            dict(zip(names, (name, people, *found["zone_intervals"][name]), strict=True))
            for name, people in found["zones"].items()
        ],
        "lines": [{"name": name, "left": left, "right": right} for name, (left, right) in found["lines"].items()],
        "warnings": found["warnings"],
    }


class Parts:
    """A folder of ``part-00000.parquet``, ``part-00001.parquet``, ...; a context manager.

    The parts hold the rows of the job in its order, each part appears whole, and the rows after the last part are in
    the file ``_journal`` until they are one, too: when there are ``part_rows`` of them, or when the job is left,
    whatever the reason. Nothing but the part that is being written needs memory.

    Args:
        folder: made if its parent is there.
        head: what the job is; see :class:`engine.jobs.journal.Journal`. Its "model" is in every row.
        resume: go on with what is there.
        part_rows: rows of a part.

    Attributes:
        done: rows that are there; they are the first of the job.
        is_complete: the job was ended.

    Raises:
        ConfigError: there is a job already and this is not to ``resume`` it, or that one is another.
        EngineError: pyarrow is not installed, or the journal is damaged.
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str], head: dict[str, Any], resume: bool, part_rows: int = PART_ROWS):
        self._parquet = import_parquet()
        self._folder, self._model, self._part_rows = Path(folder), str(head.get("model")), part_rows
        self._journal = open_job(self._folder, head, resume)
        try:
            parts = [self._parquet.read_metadata(file).num_rows for file in sorted(self._folder.glob("part-*.parquet"))]
            self._part, self._rows, self.is_complete = len(parts), 0, False
            self._take_up()
            self.done = sum(parts) + self._rows
        except BaseException:
            self._journal.close()
            raise

    def add(self, row: Row) -> None:
        """Add a row.

        Raises:
            OSError: it cannot be written, or the part that it completes cannot; the rows are in the journal then.
        """
        self._journal.append(row.to_dict())
        self._rows, self.done = self._rows + 1, self.done + 1
        if self._rows >= self._part_rows:
            self._finish_part()

    def finish(self) -> None:
        """Say that every row is there."""
        self._finish_part()
        self._journal.clear()
        self._journal.append({"done": self.done})
        self.is_complete = True

    def close(self) -> None:
        """Make a part of what is in the journal."""
        try:
            self._finish_part()
        finally:
            self._journal.close()

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take_up(self) -> None:
        """See what the journal has beyond its head: nothing; "done"; or the number of the part, and its rows."""
        rows = self._journal.rows()
        first = next(rows, {})
        self.is_complete = "done" in first
        if first.get("part") == self._part:
            self._rows = sum(1 for _ in rows)
        elif not self.is_complete:
            # Its rows are in the last part, which took its name before the process was killed.
            self._begin_part()

    def _begin_part(self) -> None:
        self._journal.clear()
        self._journal.append({"part": self._part})

    def _finish_part(self) -> None:
        if not self._rows:
            return
        path = self._folder / f"part-{self._part:05}.parquet"
        hidden = path.with_name(f".{path.name}.part")
        rows = itertools.islice(self._journal.rows(), 1, None)
        try:
            with open(hidden, "wb") as file:
                with self._parquet.ParquetWriter(file, schema(), compression="zstd") as writer:
                    while group := [Row.from_dict(row) for row in itertools.islice(rows, _GROUP)]:
                        writer.write_table(arrow_table(group, self._model))
                file.flush()
                os.fsync(file.fileno())
            os.replace(hidden, path)
        except BaseException:
            hidden.unlink(missing_ok=True)
            raise
        # In this order: a signal in between must not make a second part of the same rows.
        self._rows = 0
        self._part += 1
        self._begin_part()


def open_job(folder: Path, head: dict[str, Any], resume: bool) -> Journal:
    """The journal of the job in ``folder``, which is made.

    Raises:
        ConfigError: there is a job already and this is not to ``resume`` it, or that one is another.
    """
    if not folder.parent.is_dir():
        raise ConfigError(f"--out cannot make {folder}: the folder {folder.parent} does not exist")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder} is a file; the parts go into a folder of their own")
    journal = folder / _JOURNAL
    if not resume and folder.is_dir() and any(folder.iterdir()):
        advice = "add --resume to go on with the job in it" if journal.exists() else "give a new folder"
        raise ConfigError(f"--out {folder} is not empty; {advice}")
    if resume and not journal.exists() and folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"--out {folder} has files, but no job to resume (no {_JOURNAL}); give a new folder")
    folder.mkdir(exist_ok=True)
    return Journal(journal, head, resume=True)


def import_parquet() -> Any:
    """``pyarrow.parquet``.

    Raises:
        EngineError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise EngineError(f"Parquet needs {error.name}: pip install 'crowd-engine[batch]'") from error
    return pyarrow.parquet
