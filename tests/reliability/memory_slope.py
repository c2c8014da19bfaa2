"""Memory of one counter over many pictures: ``python -m reliability.memory_slope`` from the folder ``tests``.

Prints the resident memory as it goes, and in the end its slope over the second half, when everything that is made
once has been made.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pictures import encoded

import engine

_KINDS = ("jpeg", "png", "webp-lossy", "bmp")


def resident_kib() -> int:
    """Resident memory of this process in KiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def files(number: int, sizes: int) -> Iterator[bytes]:
    """``number`` encoded pictures of ``sizes`` different sizes and four formats, each with its own pixels."""
    for index in range(number):
        step = index % sizes
        height, width = 64 + 32 * (step % 5), 64 + 8 * step
        rng = np.random.default_rng(index)
        picture = np.repeat(rng.integers(0, 256, (height, width // 8, 3), dtype=np.uint8), 8, axis=1)
        yield encoded(picture, _KINDS[index % len(_KINDS)])


def measure(number: int, sizes: int, every: int, backend: str = "auto") -> list[tuple[int, int]]:
    """Count ``number`` pictures; (pictures counted, resident KiB) after every ``every`` of them."""
    rows = []
    with engine.CrowdCounter(device="cpu", backend=backend, cpu_threads=1) as counter:
        for index, data in enumerate(files(number, sizes), 1):
            counter.count(data)
            if index % every == 0:
                gc.collect()
                rows.append((index, resident_kib()))
                print(f"{time.strftime('%H:%M:%S')} {index:7d} pictures {rows[-1][1] / 1024:8.1f} MiB", flush=True)
    return rows


def slope(rows: list[tuple[int, int]]) -> float:
    """KiB per picture by least squares, over the second half of ``rows``."""
    late = np.array(rows[len(rows) // 2 :], float)
    return float(np.polyfit(late[:, 0], late[:, 1], 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--sizes", type=int, default=8, help="different picture sizes")
    parser.add_argument("--every", type=int, default=500, help="pictures between two measurements")
    parser.add_argument("--backend", default="auto")
    options = parser.parse_args()
    start = time.perf_counter()
    rows = measure(options.pictures, options.sizes, options.every, options.backend)
    took = time.perf_counter() - start
    rise = slope(rows)
    print(f"{options.pictures} pictures of {options.sizes} sizes in {took:.0f} s: {rise * 1000:+.1f} KiB per 1,000")
    print(f"at this rate {rise * options.pictures / took * 3600 / 1024:+.2f} MiB an hour")


if __name__ == "__main__":
    main()
