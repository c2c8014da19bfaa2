"""Rows -> Parquet parts of one schema; the rows of the part that is being filled are in a journal beside them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError
from engine.jobs.journal import Journal
from engine.jobs.parquet import import_parquet, read_errors, row_count
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
        is_complete: the job was ended.

    Raises:
        ConfigError: there is a job already and this is not to ``resume`` it, or that one is another; or the parts are
            not those that it has written.
        EngineError: pyarrow is not installed, or the journal is damaged.
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str], head: dict[str, Any], resume: bool, part_rows: int = PART_ROWS):
        self._parquet = import_parquet()
        self._folder, self._model, self._part_rows = Path(folder), str(head.get("model")), part_rows
        self._journal = open_job(self._folder, head, resume)
        try:
            # Parts that are there, the rows in them, and those behind them: one value, so that no signal comes between.
            self._state, self.is_complete = (0, 0, 0), False
            self._take_up()
        except BaseException:
            self._journal.close()
            raise

    def add(self, row: Row) -> None:
        """Add a row.

        Raises:
            OSError: it cannot be written, or the part that it completes cannot; the rows are in the journal then.
        """
        self._journal.append(row.to_dict())
        parts, before, rows = self._state
        self._state = (parts, before, rows + 1)
        if rows + 1 >= self._part_rows:
            self._finish_part()

    @property
    def done(self) -> int:
        """Rows that are there; they are the first of the job."""
        return self._state[1] + self._state[2]

    def finish(self) -> None:
        """Say that every row is there."""
        self._finish_part()
        self._journal.clear()
        self._journal.append({"done": True, "part": self._state[0], "rows": self._state[1]})
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
        """See what the journal has beyond its head.

        That is nothing; or the number of the part that is being filled and of the rows before it, and its rows, if the
        job is not done.
        """
        rows = self._journal.rows()
        first = next(rows, {})
        ids = [row["id"] for row in rows]
        sizes = _sizes(self._folder, first, ids)
        is_last = len(sizes) == first.get("part")
        self._state, self.is_complete = (len(sizes), sum(sizes), len(ids) if is_last else 0), "done" in first
        if not is_last and not self.is_complete:
            # Its rows are in the last part, which took its name before the process was killed.
            self._begin_part()

    def _begin_part(self) -> None:
        self._journal.clear()
        self._journal.append({"part": self._state[0], "rows": self._state[1]})

    def _finish_part(self) -> None:
        part, before, rows = self._state
        if rows == 0:
            return
        path = self._folder / _name(part)
        hidden = path.with_name(f".{path.name}.part")
        # A signal may have come after the journal had a row, and before it was numbered.
        kept, rows = itertools.islice(self._journal.rows(), 1, None), 0
        try:
            with open(hidden, "wb") as file:
                with self._parquet.ParquetWriter(file, schema(), compression="zstd") as writer:
                    while group := [Row.from_dict(row) for row in itertools.islice(kept, _GROUP)]:
                        writer.write_table(arrow_table(group, self._model))
                        rows += len(group)
                file.flush()
                os.fsync(file.fileno())
            # The rows of a part that is there are in the journal, too, until it begins the next.
            self._journal.sync()
            os.replace(hidden, path)
        except BaseException:
            hidden.unlink(missing_ok=True)
            raise
        # In this order: a signal in between must not make a second part of the same rows.
        self._state = (part + 1, before + rows, 0)
        self._begin_part()


def _name(part: int) -> str:
    return f"part-{part:05}.parquet"


def _sizes(folder: Path, known: dict[str, Any], ids: list[int]) -> list[int]:
    """Rows of each part, which are those that the job has written.

    Args:
        known: "part" and "rows": how many parts the journal knows of, and of rows in them. Neither is there where the
            process was killed as the journal began a part.
        ids: of the rows in the journal, which may be those of one part more.

    Raises:
        ConfigError: parts were taken away, put there or exchanged since.
    """
    there = {file.name for file in folder.glob("part-*.parquet")}
    wanted = [_name(part) for part in range(known.get("part", len(there)))]
    if missing := [name for name in wanted if name not in there]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ConfigError(
            f"{folder} lacks {missing[0]}{more}, which the job in it has written; put all its parts back to go on, and "
            "take them when it is done, or give a new folder"
        )
    sizes = [row_count(folder / name) for name in wanted]
    if sum(sizes) != known.get("rows", sum(sizes)):
        raise ConfigError(
            f"the parts in {folder} have {sum(sizes)} rows, and the job in it has written {known['rows']}; put its own "
            "parts back to go on, or give a new folder"
        )
    others = sorted(there.difference(wanted))
    if others == [_name(len(wanted))] and ids == _ids(folder / others[0]):
        return [*sizes, len(ids)]
    if others:
        raise ConfigError(
            f"{folder} has {others[0]}, which the job in it has not written; move it elsewhere, or give a new folder"
        )
    return sizes


def _ids(file: Path) -> list[int]:
    parquet = import_parquet()
    with read_errors(file):
        ids: list[int] = parquet.read_table(file, columns=["id"]).column("id").to_pylist()
        return ids


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
