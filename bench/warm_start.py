"""Measures the warm start of streams against cold counting: ``python bench/warm_start.py [VIDEO ...] [--stills DATA]``.

Every variant counts the same frames, in turn, so that they share the machine's moods. Videos have no truth; a pan over
an annotated still has: a window of ``--window`` pixels moves over the picture and back, ``--speed`` pixels a frame.
Prints a table, a row for each variant and source:

- time: milliseconds a frame, as a share of the first variant's (median of the ratios of single frames);
- against cold: mean absolute difference of the count to the first variant's, in people;
- error: mean absolute error of the count, in people (pans);
- jitter: mean absolute change of the count from frame to frame, less the true change (pans), in people;
- F1: of the points at 8 pixels (pans);
- kept: share of the points that have one within 8 pixels in the frame before;
- inside: share of frames whose true count lies in the interval (pans);
- warm: share of frames that started warm.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

import engine
from engine.dataset.samples import Sample, find_samples
from engine.evaluation.metrics import localization_scores, match_points
from engine.image.load import load_image
from engine.stream.frame import FrameResult
from engine.stream.opening import StreamOptions, open_source
from engine.stream.pipeline import CountStream, FrameReader, count_frames
from engine.stream.sources import PictureSource
from engine.stream.warm_start import WarmSettings, WarmStart

ROOT = Path(__file__).parent.parent
RADIUS = 8.0
COLUMNS = ("source", "variant", "time", "against cold", "error", "jitter", "F1", "kept", "inside", "warm")


@dataclass(frozen=True)
class Variant:
    """One way to count: ``steps`` from noise, or warm where there are ``settings``."""

    name: str
    steps: int | None
    settings: WarmSettings | None = None


@dataclass(frozen=True)
class Shot:
    """One frame, and where its people are, if that is known: [N, 2] in pixels."""

    image: np.ndarray
    truth: np.ndarray | None


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path, help="videos without annotations")
    parser.add_argument("--stills", type=Path, default=ROOT / "examples" / "pictures", help="annotated pictures")
    parser.add_argument("--only-digit", type=int, choices=range(10), metavar="D", help="stills numbered ...D only")
    parser.add_argument("--limit", type=int, default=8, help="stills of each part at most; 0 for none")
    parser.add_argument("--frames", type=int, default=60, help="of each sequence")
    parser.add_argument("--fps", type=float, help="of the videos")
    parser.add_argument("--window", type=int, nargs=2, default=(512, 384), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--speed", type=int, nargs="+", default=[2, 8], help="of the pans, pixels a frame")
    parser.add_argument("--t", type=float, nargs="*", default=[], help="sweep these noise levels too")
    parser.add_argument("--rule", type=int, nargs="*", default=[], help="sweep the rules of these numbers of steps too")
    options = parser.parse_args()
    chosen = WarmSettings()
    with engine.CrowdCounter() as counter:
        found = variants(counter, chosen, options.t or [chosen.t], options.rule or [chosen.rule_steps])
        print_row(COLUMNS)
        for name, sequences in sources(options):
            for row in rows_of(name, found, measure(counter, found, sequences)):
                print_row(row)


def variants(counter: engine.CrowdCounter, chosen: WarmSettings, times: list[float], rules: list[int]) -> list[Variant]:
    """The default of the model, which the others are compared with, one step, and warm starts."""
    default = counter._bundle.default_steps
    found = [Variant(f"cold, {default} steps", default), Variant("cold, 1 step", 1)]
    for t, rule in itertools.product(times, rules):
        settings = WarmSettings(t, rule, chosen.gain, chosen.jump)
        found.append(Variant(f"warm, t = {t:g}, rule of {rule}", default, settings))
    unsmoothed = WarmSettings(chosen.t, chosen.rule_steps, 1.0, chosen.jump)
    return [*found, Variant("warm, not smoothed", default, unsmoothed)]


def sources(options: argparse.Namespace) -> Iterator[tuple[str, list[list[Shot]]]]:
    """Names of sources and their sequences."""
    for path in options.videos:
        frames = open_source(path, StreamOptions(fps=options.fps)).frames()
        yield path.name, [[Shot(frame.image, None) for frame in itertools.islice(frames, options.frames)]]
    samples = [s for s in find_samples(options.stills, "train") if options.only_digit in (None, s.number % 10)]
    for part in sorted({sample.part for sample in samples}) if options.limit else ():
        stills = [sample for sample in samples if sample.part == part][: options.limit]
        for speed in options.speed:
            yield f"{part}, {speed} px", [list(pan(still, speed, options.frames, options.window)) for still in stills]


def pan(sample: Sample, speed: int, frames: int, window: tuple[int, int]) -> Iterator[Shot]:
    """A window that moves over a still and back."""
    image = load_image(sample.image)
    height, width = image.shape[:2]
    # Narrow pictures are panned with a narrower window.
    wide, high = min(window[0], width - min(width // 4, 64)), min(window[1], height)
    left, top, step = 0, (height - high) // 2, speed
    for _ in range(frames):
        inside = ((sample.points >= (left, top)) & (sample.points < (left + wide, top + high))).all(axis=1)
        yield Shot(image[top : top + high, left : left + wide], sample.points[inside] - (left, top))
        if not 0 <= left + step <= width - wide:
            step = -step
        left += step


def measure(
    counter: engine.CrowdCounter, found: list[Variant], sequences: Iterable[list[Shot]]
) -> list[tuple[list[Shot], list[list[FrameResult]]]]:
    """Each sequence with the results of each variant."""
    measured = []
    for shots in tqdm(list(sequences), desc="sequences", leave=False):
        streams = [open_stream(counter, variant, shots) for variant in found]
        results: list[list[FrameResult]] = [[] for _ in found]
        for number in range(len(shots)):
            # The order turns, so that nobody always comes after the same one.
            for place in range(len(found)):
                at = (place + number) % len(found)
                results[at].append(next(streams[at]))
        measured.append((shots, results))
    return measured


def open_stream(counter: engine.CrowdCounter, variant: Variant, shots: list[Shot]) -> CountStream:
    """As ``counter.stream`` opens it, with the variant's settings."""
    plan, backend = counter._plan(variant.steps, None, None), counter._open_backend()
    warm = WarmStart(plan, backend, variant.settings) if variant.settings else None
    pictures = PictureSource("shots", [shot.image for shot in shots], "rgb", None, skips_damaged=False)
    reader = FrameReader(pictures)
    return CountStream(reader, count_frames(reader, plan, warm, counter._count_all))


def print_row(cells: Sequence[str]) -> None:
    """One line of the table, as soon as it is known."""
    widths = (16, 24, *map(len, COLUMNS[2:]))
    print("  ".join(cell.ljust(max(width, 5)) for cell, width in zip(cells, widths, strict=True)).rstrip(), flush=True)


def rows_of(
    name: str, found: list[Variant], measured: list[tuple[list[Shot], list[list[FrameResult]]]]
) -> list[list[str]]:
    """The table's rows of one source; figures are means over its sequences."""
    rows = []
    for at, variant in enumerate(found):
        scores = np.array([score(shots, results[at], results[0]) for shots, results in measured])
        rows.append([name, variant.name, *("-" if np.isnan(x) else f"{x:.3f}" for x in scores.mean(axis=0))])
    return rows


def score(shots: list[Shot], results: list[FrameResult], cold: list[FrameResult]) -> tuple[float, ...]:
    """The figures of one sequence, in the order of the columns; NaN for what needs a truth that is not there."""
    counts = np.array([frame.result.count for frame in results], float)
    known = shots[0].truth is not None
    truth = np.array([len(shot.truth) if shot.truth is not None else 0 for shot in shots], float)
    points = [frame.result.points for frame in results]
    pairs = [(shot.truth, found) for shot, found in zip(shots, points, strict=True) if shot.truth is not None]
    matched = sum(match_points(true, found, RADIUS) for true, found in pairs)
    kept = sum(match_points(a, b, RADIUS) for a, b in itertools.pairwise(points))
    low, high = np.array([frame.result.interval for frame in results]).T
    ratios = [a.result.timings["total"] / b.result.timings["total"] for a, b in zip(results, cold, strict=True)]
    return (
        # The first frames warm the caches, and are cold in every variant.
        float(np.median(ratios[2:])),
        float(np.abs(counts - [frame.result.count for frame in cold]).mean()),
        float(np.abs(counts - truth).mean()) if known else np.nan,
        float(np.abs(np.diff(counts - truth)).mean()),
        localization_scores(matched, int(truth.sum()), int(counts.sum())).f1 if known else np.nan,
        kept / max(sum(map(len, points[1:])), 1),
        float(((low <= truth) & (truth <= high)).mean()) if known else np.nan,
        float(np.mean([frame.warm for frame in results])),
    )


if __name__ == "__main__":
    main()
