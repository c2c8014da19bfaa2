"""``crowd bench``: how long a count takes on this machine, with each backend and compute type that runs here."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.cli.machine import read_cpu, read_versions
from engine.cli.outputs import check_output_file, files_of_settings, open_whole, refuse_shared_files
from engine.cli.terminal import Status, printable
from engine.config import ImageLimits, check_range
from engine.errors import ConfigError, NotFiniteError
from engine.system.text import aligned

if TYPE_CHECKING:
    import numpy as np

    from engine.cli.timing import Timing
    from engine.cli.variants import Variant
    from engine.counter import CrowdCounter

_PERCENTILES = (20, 50, 80)
# Heads of the drawn picture, in each 100 x 100 pixels.
_DENSITY = 1.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("picture", nargs="?", metavar="PICTURE", help="to count (default: a drawn one)")
    parser.add_argument("--model", default="default", help='"default" or the path of a bundle')
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("W", "H"), help="scale the picture to (default: its own; drawn: 1024 768)"
    )
    parser.add_argument("--steps", type=int, nargs="+", metavar="S", help="denoising steps (default: the model's own)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 is all cores (default: 0)")
    parser.add_argument("--device", nargs="+", default=["cpu"], help="cpu, cuda or cuda:N, or several (default: cpu)")
    parser.add_argument("--seconds", type=float, default=20.0, help="to time for, beside loading (default: 20)")
    parser.add_argument("--json", metavar="FILE", help="write the times as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    """Time, print a table; 0, or 1 if a variant disagrees with the reference or nothing runs."""
    # Here, so that the other commands load no counter.
    from engine.bundle.bundle import load_bundle
    from engine.cli.timing import interleave
    from engine.cli.variants import all_variants

    check_output_file("--json", options.json)
    refuse_shared_files({"--json": options.json}, [options.picture or "", *files_of_settings(options)])
    if not 0 < options.seconds < float("inf"):
        raise ConfigError(f"--seconds must be a positive number, got {options.seconds:g}")
    image = _picture(options.picture, options.size)
    steps = list(dict.fromkeys(options.steps or [load_bundle(options.model).default_steps]))
    bench = _Bench(options.model, image, steps, options.threads)
    with contextlib.closing(bench):
        with _bar(options.quiet, "loading") as progress:
            bench.load(list(all_variants(options.device)), progress)
        with _bar(options.quiet, "timing") as progress:
            times = interleave(bench.stints(), options.seconds, least=3, progress=progress)
    print(_report(bench, times, image))
    if options.json is not None:
        with open_whole(options.json) as file:
            file.write(json.dumps(_data(bench, times, image), indent=1) + "\n")
    return Status.FAILED if bench.refused or not times else Status.OK


@dataclass(frozen=True)
class _Entry:
    """A variant at one number of steps, and what it counted before it was timed."""

    variant: Variant
    counter: CrowdCounter
    steps: int
    count: int


class _Bench:
    """Counters that agree with the reference, and why the others are left out."""

    def __init__(self, model: str, image: np.ndarray, steps: Sequence[int], threads: int):
        self._model, self._image, self._steps, self._threads = model, image, steps, threads
        self._counters = contextlib.ExitStack()
        self._expected: dict[int, Any] = {}
        self.entries: dict[str, _Entry] = {}
        self.missing: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.reference = ""

    def load(self, variants: Sequence[Variant], progress: Any) -> None:
        """Make a counter of each variant, and compare its counts with those of the first one that runs."""
        from engine.cli.variants import MISSING, disagreement

        for number, variant in enumerate(variants):
            progress(number / len(variants))
            try:
                counter = self._counters.enter_context(variant.counter(self._model, cpu_threads=self._threads))
                results = {steps: counter.count(self._image, steps=steps) for steps in self._steps}
            except ConfigError:
                raise
            except NotFiniteError as error:
                self.refused[str(variant)] = str(error)
                continue
            except MISSING as error:
                self.missing[str(variant)] = str(error)
                continue
            self.reference = self.reference or str(variant)
            for steps, result in results.items():
                name = f"{variant}, {steps} steps"
                wrong = disagreement(result, self._expected.setdefault(steps, result))
                if wrong:
                    self.refused[name] = wrong
                else:
                    self.entries[name] = _Entry(variant, counter, steps, result.count)
        progress(1.0)

    def stints(self) -> dict[str, Any]:
        """What to time of each."""
        from engine.cli.timing import wall

        return {
            name: wall(partial(entry.counter.count, self._image, steps=entry.steps))
            for name, entry in self.entries.items()
        }

    def close(self) -> None:
        self._counters.close()


def draw_crowd(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A picture to time with where there is none: heads as dark discs of 6 to 24 pixels on grey noise.

    Returns:
        uint8 [height, width, 3]; the same on every machine.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    image = rng.integers(120, 200, (height, width, 3), dtype=np.uint8)
    for _ in range(int(width * height / 1e4 * _DENSITY)):
        radius = int(rng.integers(3, 13))
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        rows, columns = slice(max(y - radius, 0), y + radius + 1), slice(max(x - radius, 0), x + radius + 1)
        ys, xs = np.ogrid[rows.start : min(rows.stop, height), columns.start : min(columns.stop, width)]
        image[rows, columns][(xs - x) ** 2 + (ys - y) ** 2 <= radius**2] = rng.integers(20, 90, 3)
    return image


def _picture(path: str | None, size: Sequence[int] | None) -> np.ndarray:
    for side in size or ():
        check_range("--size", side, 1, 1 << 16)
    if size is not None and size[0] * size[1] > (most := ImageLimits().max_pixels):
        raise ConfigError(f"--size must be at most {most} pixels in all (CROWD_MAX_PIXELS), got {size[0]} x {size[1]}")
    from engine.image.load import load_image

    if path is None:
        return draw_crowd(*(size or (1024, 768)))
    image = load_image(path)
    if size is None:
        return image
    import numpy as np
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((size[0], size[1])))


@contextlib.contextmanager
def _bar(quiet: bool, text: str) -> Any:
    from tqdm import tqdm

    with tqdm(total=100, desc=text, unit="%", disable=quiet or not sys.stderr.isatty(), leave=False) as bar:
        yield lambda share: bar.update(round(100 * share) - bar.n)


def _report(bench: _Bench, times: Mapping[str, Timing], image: np.ndarray) -> str:
    cpu, (height, width) = read_cpu(), image.shape[:2]
    lines = [f"{cpu.name}, {cpu.cores} cores; {width} x {height} pixels, decoded", ""]
    rows = [["", *(f"p{share} ms" for share in _PERCENTILES), "pictures/s", "people", "noise"]]
    for name, timing in times.items():
        figures = [f"{timing.percentile(share):.1f}" for share in _PERCENTILES]
        rate = f"{1e3 / timing.percentile(50):.1f}"
        rows.append([name, *figures, rate, str(bench.entries[name].count), f"{timing.noise:.0%}"])
    lines += aligned(rows)
    if bench.reference:
        lines += ["", f"Each agreed with {bench.reference} before it was timed, in turns with the others."]
    lines += [f"NOT TIMED, AS IT IS WRONG: {name}: {reason}" for name, reason in bench.refused.items()]
    lines += [f"not here: {name}: {printable(reason)}" for name, reason in bench.missing.items()]
    return "\n".join(lines)


def _data(bench: _Bench, times: Mapping[str, Timing], image: np.ndarray) -> dict[str, Any]:
    cpu = read_cpu()
    rows = []
    for name, timing in times.items():
        entry = bench.entries[name]
        settings = {"backend": entry.variant.backend, "compute_type": entry.variant.compute_type}
        percentiles = {f"p{share}_ms": timing.percentile(share) for share in _PERCENTILES}
        found = {"rounds": len(timing.samples), "noise": timing.noise, "count": entry.count}
        settings |= {"performance": entry.variant.performance, "device": entry.variant.device}
        rows.append({**settings, "steps": entry.steps, **percentiles, **found})
    return {
        "cpu": cpu.name,
        "cores": cpu.cores,
        "instructions": cpu.features,
        "versions": {name: version for name, version in read_versions().items() if version},
        "width": image.shape[1],
        "height": image.shape[0],
        "reference": bench.reference,
        "rows": rows,
        "refused": bench.refused,
        "missing": bench.missing,
    }
