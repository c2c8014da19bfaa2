"""Draws the figures of docs/benchmarks.md from a result file: ``python bench/plot.py [bench/results/cpu.json]``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from suite.accuracy import PEERS, TEST
from suite.results import Results, Row, read
from suite.summary import SCALING, size_of

_ROOT = Path(__file__).parents[1]
_OURS, _THEIRS, _OTHER = "#c2410c", "#475569", "#94a3b8"
# Times the fastest, from which on a way is named and not drawn.
_SLOW = 8
_MARKERS = {"PyTorch float32": "o", "OpenVINO float32": "s", "OpenVINO bfloat16": "D"}


def draw_all(results: Results, folder: Path) -> list[Path]:
    """Draw every figure that the results have rows for; the paths of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, draw in (("error_against_time", draw_errors), ("kernels", draw_kernels),
                       ("counts", draw_counts), ("scaling", draw_scaling)):  # fmt: skip
        figure = draw(results)
        if figure is not None:
            path = folder / f"{name}.png"
            figure.savefig(path, dpi=130, metadata={"Software": None})
            plt.close(figure)
            drawn.append(path)
    return drawn


def draw_errors(results: Results) -> Any:
    """Mean absolute error against milliseconds, part A and part B."""
    rows = results.find(PEERS)
    if not rows:
        return None
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    for axis, part, column in zip(axes, "AB", ("mae_a", "mae_b"), strict=True):
        known = [row for row in rows if getattr(row, column) is not None]
        for name in dict.fromkeys(row.way.partition(", ")[0] for row in known):
            _network(axis, name, [row for row in known if row.way.startswith(f"{name}, ")], column)
        axis.set(xscale="log", xlabel="milliseconds per picture", title=f"ShanghaiTech part {part}")
        axis.margins(x=0.3)
        axis.set_ylim(0, 1.15 * max(getattr(row, column) or 0 for row in rows))
        _plain_ticks(axis.xaxis)
    axes[0].set_ylabel("mean absolute error (people)")
    for label, marker in _MARKERS.items():
        axes[0].plot([], [], marker, color=_THEIRS, label=label)
    axes[0].plot([], [], "*-", color=_OURS, label="crowd-engine, by number of steps")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8, frameon=False)
    width, height = rows[0].width, rows[0].height
    figure.supxlabel(
        f"{width}x{height} pixels. Others: the network alone, random weights; errors as published, on the test sets.\n"
        f"Ours: the whole count; errors in float32, {_origin(rows)}. {_caption(results)}",
        fontsize=7,
    )
    return figure


def _origin(rows: Sequence[Row]) -> str:
    """On which pictures our errors were measured."""
    splits = {row.split for row in rows if row.split}
    assert len(splits) <= 1, "errors of two splits in one plot"
    return "on the test sets, measured once" if splits == {TEST} else "on held-out training pictures"


def _network(axis: Any, name: str, rows: Sequence[Row], column: str) -> None:
    """The points of one counter, joined by a line; each step of ours has its name."""
    ours = name == "crowd-engine"
    colour = _OURS if ours else _THEIRS
    axis.plot([row.p50 for row in rows], [getattr(row, column) for row in rows], color=colour, lw=1, alpha=0.5)
    for row in rows:
        how, place = row.way.partition(", ")[2], (row.p50, getattr(row, column))
        axis.plot(*place, "*" if ours else _MARKERS[how], color=colour, ms=11 if ours else 6)
        if ours or row is rows[0]:
            text, shift = (how.split()[0] if len(rows) > 1 else name, (0, 8)) if ours else (name, (7, -2.5))
            side = "center" if ours else "left"
            axis.annotate(text, place, xytext=shift, textcoords="offset points", ha=side, fontsize=7)


def _plain_ticks(axis: Any) -> None:
    """1000 and not 10^3, on a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.axes.grid(True, which="major", color="#e2e8f0", lw=0.5)
    axis.axes.set_axisbelow(True)


def draw_kernels(results: Results) -> Any:
    """Each way's time on the largest shape of each kernel, and that of each segment, with its share of the roof."""
    names = ("criss_cross_attention", "ddim_update", "find_peaks", "segment")
    drawn = {name: _largest(results.find(name)) for name in names if results.find(name)}
    if not drawn:
        return None
    heights = [0.8 + 0.3 * len(rows) for rows in drawn.values()]
    figure, axes = plt.subplots(
        len(drawn), 1, figsize=(9, sum(heights)), layout="constrained", squeeze=False, height_ratios=heights
    )
    for axis, (name, rows) in zip(axes[:, 0], drawn.items(), strict=True):
        _dots(axis, rows, [_ms(row) + (f", {row.roof:.0f} % of roof" if row.roof else "") for row in rows])
        axis.set(title=f"{name}, {rows[0].case}", xlabel="milliseconds (logarithmic)", xscale="log")
        axis.set_xlim(min(row.p20 for row in rows) / 2, max(row.p80 for row in rows) * 12)
        _plain_ticks(axis.xaxis)
    _sign(figure, results)
    return figure


def _largest(rows: Sequence[Row]) -> list[Row]:
    """Those of the case with the most pixels and people, the slowest first."""
    case = max(rows, key=lambda row: ((row.width or 0) * (row.height or 0), row.people or 0)).case
    return sorted((row for row in rows if row.case == case), key=lambda row: -row.p50)


def draw_counts(results: Results) -> Any:
    """A whole count on everything that ran, by stage, at 1024x768 and the model's own steps."""
    rows = [row for row in results.find("count") if (row.width, row.height) == (1024, 768)]
    rows = rows or results.find("count")
    if not rows:
        return None
    cases = [row.case for row in rows]
    # Most ways ran at the model's own steps.
    case = max(cases, key=cases.count)
    rows = sorted((row for row in rows if row.case == case), key=lambda row: -row.p50)
    # Bars of a few ways that are very slow would hide what the others differ in.
    slow = [row for row in rows if row.p50 > _SLOW * rows[-1].p50]
    rows = rows[len(slow) :]
    figure, axis = plt.subplots(figsize=(9, 0.42 * len(rows) + 1.4), layout="constrained")
    starts = [0.0] * len(rows)
    stages = list(dict.fromkeys(row.case.partition(": ")[2] for row in results.find("stage")))
    shades = plt.get_cmap("YlOrBr")([0.25 + 0.6 * i / max(len(stages) - 1, 1) for i in range(len(stages))])
    for stage, shade in zip(stages, shades, strict=True):
        found = {row.way: row.p50 for row in results.find("stage", case=f"{case}: {stage}")}
        widths = [found.get(row.way, 0.0) for row in rows]
        axis.barh([row.way for row in rows], widths, left=starts, color=shade, label=stage)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    for row, end in zip(rows, starts, strict=True):
        axis.annotate(f" {_ms(row)}", (max(end, row.p50), row.way), va="center", fontsize=8)
    left_out = "".join(f"; not drawn: {row.way}, {_ms(row)}" for row in slow)
    axis.set(title=f"One count, {case}", xlabel=f"milliseconds{left_out}")
    axis.margins(x=0.15)
    axis.legend(fontsize=7, frameon=False)
    _sign(figure, results)
    return figure


def draw_scaling(results: Results) -> Any:
    """Time against each thing that was varied, on logarithmic axes, with the fitted exponent."""
    names = [name for name in SCALING if results.find(f"time against {name}")]
    if not names:
        return None
    figure, axes = plt.subplots(1, len(names), figsize=(2.9 * len(names), 3.2), layout="constrained", squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        rows = results.find(f"time against {name}")
        unit = 1e6 if name == "pixels" else 1
        sizes = [size_of(row, name) / unit for row in rows]
        low, high = ([row.p50 - row.p20 for row in rows], [row.p80 - row.p50 for row in rows])
        axis.errorbar(sizes, [row.p50 for row in rows], yerr=[low, high], fmt="o-", color=_OURS, ms=4, lw=1)
        (fit,) = results.find("exponent", case=f"time against {name}")[:1] or [None]
        exponent = f": exponent {fit.p50:.2f}" if fit else ""
        axis.set(xscale="log", yscale="log", xlabel="megapixels" if unit > 1 else name)
        axis.set_title(f"{name}{exponent}", fontsize=9)
        _plain_ticks(axis.yaxis)
        _plain_ticks(axis.xaxis)
        axis.xaxis.set_major_locator(FixedLocator(sizes))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}" if value < 10 else f"{value:.0f}"))
        axis.tick_params(axis="x", rotation=45, labelsize=8)
    axes[0][0].set_ylabel("milliseconds")
    _sign(figure, results)
    return figure


def _ms(row: Row) -> str:
    return f"{row.p50:.3g} ms" if row.p50 < 1000 else f"{row.p50:.0f} ms"


def _dots(axis: Any, rows: Sequence[Row], texts: Sequence[str]) -> None:
    colours = [_OURS if row.way.startswith("engine") else _OTHER for row in rows]
    for row, text, colour in zip(rows, texts, colours, strict=True):
        axis.plot([row.p20, row.p80], [row.way] * 2, color=colour, lw=3)
        axis.plot(row.p50, row.way, "o", color=colour, ms=8)
        axis.annotate(text, (row.p80, row.way), xytext=(8, 0), textcoords="offset points", va="center", fontsize=8)
    axis.tick_params(axis="y", labelsize=8)
    axis.margins(y=0.15)


def _sign(figure: Any, results: Results) -> None:
    figure.supxlabel(_caption(results), fontsize=6, color=_THEIRS, x=0.99, ha="right")


def _caption(results: Results) -> str:
    machine = results.machine
    quick = "QUICK RUN, times mean nothing; " if results.quick else ""
    return f"{quick}{machine['cpu']}, {machine['cores']} cores, commit {machine['commit']}"


def table(results: Results) -> str:
    """Our errors and times by the number of steps, as a table in Markdown."""
    lines = ["| steps | MAE A | MAE B | ms |", "|---|---|---|---|"]
    for row in results.find(PEERS):
        if row.way.startswith("crowd-engine"):
            errors = ("-" if x is None else f"{x:.1f}" for x in (row.mae_a, row.mae_b))
            lines.append(f"| {row.steps} | {' | '.join(errors)} | {row.p50:.0f} ({row.p20:.0f}-{row.p80:.0f}) |")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=_ROOT / "bench" / "results" / "cpu.json")
    parser.add_argument("--out", type=Path, help="folder for the pictures (default: that of the results)")
    options = parser.parse_args()
    results = read(options.results)
    for path in draw_all(results, options.out or options.results.parent):
        print(path)
    print(table(results))


if __name__ == "__main__":
    main()
