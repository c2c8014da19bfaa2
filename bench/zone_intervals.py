"""How often the true number of people in a zone lies in its interval: pictures cut into grids of zones.

python bench/zone_intervals.py ShanghaiTech/part_B --only-digit 0
"""

from __future__ import annotations

import argparse

import numpy as np
from tqdm import tqdm

import engine
from engine.dataset.samples import Sample, find_samples
from engine.zones.layout import ZoneLayout
from engine.zones.members import count_zones

GRIDS = (1, 2, 3, 4, 6)


def grid_of_zones(parts: int) -> ZoneLayout:
    """``parts`` x ``parts`` zones that cover the picture."""
    cuts = [part / parts for part in range(parts + 1)]
    boxes = [(cuts[x], cuts[y], cuts[x + 1], cuts[y + 1]) for y in range(parts) for x in range(parts)]
    corners = {f"{x0} {y0}": [(x0, y0), (x1, y0), (x1, y1), (x0, y1)] for x0, y0, x1, y1 in boxes}
    return ZoneLayout.from_polygons(corners, unit="fractions")


def measure(counter: engine.CrowdCounter, samples: list[Sample], layout: ZoneLayout) -> tuple[float, float]:
    """Share of zones whose interval holds the true number, and the median width of the intervals."""
    held, widths = [], []
    for sample in tqdm(samples, unit="image", leave=False):
        result = counter.count(sample.image, zones=layout)
        true = count_zones(sample.points, layout.zone_corners(result.image_size), result.image_size)
        for name, (low, high) in result.zone_intervals.items():
            held.append(low <= true[name] <= high)
            widths.append(high - low)
    return float(np.mean(held)), float(np.median(widths))


def main() -> None:
    """Print one line for each grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder in ShanghaiTech's layout")
    parser.add_argument("--only-digit", type=int, help="pictures numbered ...D only")
    options = parser.parse_args()
    samples = [s for s in find_samples(options.data, "train") if options.only_digit in (None, s.number % 10)]
    with engine.CrowdCounter() as counter:
        for parts in GRIDS:
            held, width = measure(counter, samples, grid_of_zones(parts))
            print(f"{parts} x {parts} zones: {100 * held:.1f} % hold the true number; median width {width:.0f}")


if __name__ == "__main__":
    main()
