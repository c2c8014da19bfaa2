"""The same work on a Ray cluster: a data set of paths or addresses -> the rows of ``crowd count --out``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError, EngineError
from engine.jobs.counting import count_entries
from engine.jobs.fetch import Fetcher, FetchLimits
from engine.jobs.manifest import check_listed
from engine.jobs.parts import arrow_table
from engine.jobs.row import Entry
from engine.zones.inputs import Zones, as_layout

# Ray reports its use to its makers unless it is told otherwise; the engine opens no connections of its own.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

try:
    import ray
    import ray.data
    import ray.data.checkpoint
except ModuleNotFoundError as missing:
    raise EngineError(f"a Ray cluster needs {missing.name}: pip install 'crowd-engine[ray]'") from missing

if TYPE_CHECKING:
    import pyarrow

# Readers of Parquet folders leave out what is called so.
CHECKPOINT = "_checkpoint"


class CountActor:
    """Counts batches of rows; Ray keeps it, with its counter, from batch to batch.

    Args:
        counter: arguments of ``CrowdCounter``.
        columns: of the addresses, and of the ids.
        root: folder that relative paths start from.
    """

    def __init__(self, counter: dict[str, Any], zones: Any, columns: tuple[str, str], limits: FetchLimits, root: str):
        from engine.counter import CrowdCounter

        self._columns, self._root = columns, root
        self._counter = CrowdCounter(**counter)
        self._given = {} if zones is None else {"zones": zones}
        self._model = self._counter.settings["model"]
        self._fetcher = Fetcher(limits)

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        files, ids = (batch.column(name).to_pylist() for name in self._columns)
        entries = [Entry(identity, file or "") for identity, file in zip(ids, files, strict=True)]
        rows = count_entries(entries, self._count, self._fetcher, 1 + self._counter.parallel)
        return arrow_table(rows, self._model)

    def _count(self, picture: str | bytes) -> Any:
        if isinstance(picture, str):
            picture = os.path.join(self._root, picture)
            check_listed(picture)
        return self._counter.count(picture, **self._given)


def count_dataset(
    ds: ray.data.Dataset,
    *,
    column: str = "uri",
    id: str = "id",
    counter: Mapping[str, Any] | None = None,
    zones: Zones = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    concurrency: tuple[int, int] = (1, 1),
    limits: FetchLimits | None = None,
    batch_size: int = 64,
) -> ray.data.Dataset:
    """Count the people in every picture of a data set, with counters as stateful actors.

    Args:
        ds: rows with a path or address and a whole number that is theirs alone; other columns are dropped.
        column, id: names of these two columns.
        counter: arguments of :class:`engine.CrowdCounter`. "cpu_threads" is ``num_cpus`` unless it is here.
        zones: as of ``CrowdCounter.count``.
        num_cpus, num_gpus: of each actor.
        concurrency: fewest and most actors. One that dies is started again, and its rows are counted again.
        limits: of reading addresses; private networks are refused unless they allow them.
        batch_size: rows that an actor gets at once, and reads ahead of each other.

    Returns:
        Rows of :func:`engine.jobs.parts.schema`. A picture that cannot be read is a row with its error.

    Raises:
        ConfigError: no such column; or the actors would take every CPU of the cluster and leave none to read, or to
            look up what is done, if the job is resumed: it would wait without end.
    """
    names = ds.schema().names
    if missing := [name for name in (column, id) if name not in names]:
        raise ConfigError(
            f"the data set has no column {missing[0]!r}, but {', '.join(names)}; name it with column=, id="
        )
    _check_cpus(num_cpus, concurrency)
    options: dict[str, Any] = {"cpu_threads": max(1, int(num_cpus)), **(counter or {})}
    return ds.map_batches(
        CountActor,
        fn_constructor_args=(
            options,
            None if zones is None else as_layout(zones),
            (column, id),
            limits or FetchLimits(),
            os.getcwd(),
        ),
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=concurrency[0], max_size=concurrency[1]),
        num_cpus=num_cpus,
        num_gpus=num_gpus,
    )


def _check_cpus(num_cpus: float, concurrency: tuple[int, int]) -> None:
    fewest, most = concurrency
    if not 1 <= fewest <= most:
        raise ConfigError(f"concurrency is the fewest and the most actors, from 1 on, got {concurrency}")
    there = ray.cluster_resources().get("CPU", 0)
    # Reading takes one; writing or, in a job with checkpoints, leaving out what is done takes another.
    kept = 2 if ray.data.DataContext.get_current().checkpoint_config is not None else 1
    if most * num_cpus > there - kept:
        fit = int((there - kept) / num_cpus) if num_cpus else most
        raise ConfigError(
            f"{most} actors of {num_cpus:g} CPUs would leave fewer than {kept} of the cluster's {there:g} CPUs to read "
            f"and write, and the job would wait without end; take at most {max(fit, 0)} actors, or more CPUs"
        )


def count_manifest(manifest: Path, out: Path, part_rows: int, **options: Any) -> None:
    """Count a manifest into Parquet parts, and go on where it was stopped.

    Ray Data's own checkpoints, in ``out``, say which ids are done. A part has the rows of one file of the manifest, and
    is what has to be counted again where a machine fails.

    Args:
        manifest: folder of .parquet files with the columns "id" and "uri".
        out: folder that every machine of the cluster sees.
        part_rows: rows of each of these files.
        options: of :func:`count_dataset`.
    """
    context = ray.data.DataContext.get_current()
    before = context.checkpoint_config, context.use_datasource_v2
    context.checkpoint_config = ray.data.checkpoint.CheckpointConfig(
        id_column="id", checkpoint_path=str(out / CHECKPOINT), delete_checkpoint_on_success=False
    )
    # Addresses are short: the newer reader puts many files into one block, all of which one failure would lose.
    context.use_datasource_v2 = False
    try:
        files = len(list(manifest.glob("*.parquet")))
        rows = ray.data.read_parquet(str(manifest), columns=["id", "uri"], override_num_blocks=files)
        # Ray puts blocks together until there is a batch.
        count_dataset(rows, batch_size=min(part_rows, 64), **options).write_parquet(str(out))
    finally:
        context.checkpoint_config, context.use_datasource_v2 = before
