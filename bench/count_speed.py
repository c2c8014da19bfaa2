"""Times a whole count on every CPU backend, interleaved in one run: ``python bench/count_speed.py [PICTURE]``.

A variant whose count differs from the PyTorch float32 reference by more than 5 % is not timed.
Prints p20/p50/p80 per variant and writes them to bench/results/, with commit, hardware and versions.
"""

from __future__ import annotations

import argparse
import csv
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

import engine
from engine.cli.machine import read_cpu

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "examples" / "pictures" / "images" / "pedestrians.jpg"
VARIANTS = [("torch", "float32"), ("torch", "bfloat16"), ("openvino", "float32"), ("openvino", "bfloat16")]
COLUMNS = ("backend", "compute_type", "steps", "width", "height", "p20_ms", "p50_ms", "p80_ms", "count")
LARGEST_DIFFERENCE = 0.05


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", type=Path, default=SAMPLE)
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 768), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "count_speed.csv")
    options = parser.parse_args()
    image = np.asarray(Image.open(options.picture).convert("RGB").resize(options.size))
    rows = measure(image, options.steps, options.rounds)
    write(rows, options.out)
    print(options.out.read_text())


def measure(image: np.ndarray, steps: list[int], rounds: int) -> list[dict[str, object]]:
    """One row per variant and number of steps, all timed in turn so that they share the machine's moods."""
    counters = {}
    for backend, compute_type in VARIANTS:
        try:
            counters[backend, compute_type] = engine.CrowdCounter(backend=backend, compute_type=compute_type)
        except engine.EngineError as error:
            print(f"left out: {backend} {compute_type}: {error}", file=sys.stderr)
    counts = {(*key, n): counter.count(image, steps=n).count for key, counter in counters.items() for n in steps}
    check_counts(counts)
    times: dict[tuple[str, str, int], list[float]] = {key: [] for key in counts}
    for _ in tqdm(range(rounds), desc="rounds"):
        for backend, compute_type, n in counts:
            result = counters[backend, compute_type].count(image, steps=n)
            times[backend, compute_type, n].append(result.timings["total"])
    height, width = image.shape[:2]
    return [
        dict(
            zip(COLUMNS, (*key, width, height, *np.percentile(values, [20, 50, 80]).round(1), counts[key]), strict=True)
        )
        for key, values in times.items()
    ]


def check_counts(counts: dict[tuple[str, str, int], int]) -> None:
    """Refuse to go on if a variant disagrees with the reference."""
    for (backend, compute_type, n), count in counts.items():
        expected = counts["torch", "float32", n]
        if abs(count - expected) > max(1, LARGEST_DIFFERENCE * expected):
            raise SystemExit(
                f"{backend} {compute_type} counts {count} in {n} steps, the reference {expected}: not timed"
            )


def write(rows: list[dict[str, object]], out: Path) -> None:
    """CSV with a comment on top that says where the figures come from."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout
    versions = ", ".join(f"{name} {version(name)}" for name in ("openvino", "torch", "numpy"))
    cpu = read_cpu()
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "w", newline="") as file:
        hardware = f"{cpu.name}, {cpu.cores} cores, {' '.join(cpu.features)}"
        file.write(f"# commit {commit.strip()}; {hardware}; Python {platform.python_version()}, {versions}\n")
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
