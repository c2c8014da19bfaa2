"""The options of ``crowd count``: what is counted, and where the rows go."""

from __future__ import annotations

import argparse
from typing import Any

from engine.cli.outputs import STDOUT

# Options that do nothing without one of those beside them.
NEEDED = {
    "column": ("manifest",),
    "id": ("manifest",),
    "csv_bom": ("csv",),
    "part_rows": ("out",),
    "actors": ("ray",),
    "annotations_format": ("annotations",),
    "annotations_box": ("annotations",),
}


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of manifests and addresses."""
    parser.add_argument(
        "inputs", nargs="*", metavar="INPUT", help="picture, folder, pattern, address, or - for standard input"
    )
    parser.add_argument(
        "--manifest", metavar="FILE", help="count what is listed: .parquet, .csv, or a path or address a line"
    )
    parser.add_argument(
        "--column", metavar="NAME", help="of the manifest's addresses (default: uri, url, file, path...)"
    )
    parser.add_argument(
        "--id", metavar="NAME", help="column of whole numbers that are kept (default: rows are numbered)"
    )
    parser.add_argument("--page", type=int, metavar="N", help="page of a TIFF, or frame of an animation, from 0")
    parser.add_argument(
        "--no-exif-orientation",
        dest="exif_orientation",
        action="store_false",
        help="take pictures as they are stored: a program has turned them already",
    )
    parser.add_argument("--timeout", type=float, metavar="S", help="for an address (default: 30)")
    parser.add_argument("--max-bytes", type=int, metavar="N", help="of an address (default: 64 MiB)")
    parser.add_argument("--allow-private", action="store_true", help="read addresses in private networks, too")


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of results."""
    for name, text in (("json", "JSON"), ("jsonl", "lines of JSON"), ("csv", "CSV")):
        parser.add_argument(
            f"--{name}", nargs="?", const=STDOUT, metavar="FILE", help=f"results as {text} (default: to stdout)"
        )
    parser.add_argument("--csv-bom", action="store_true", help="begin the CSV with a mark by which Excel knows UTF-8")
    parser.add_argument("--out", metavar="DIR", help="results as Parquet parts in a folder of their own")
    parser.add_argument("--part-rows", type=int, metavar="N", help="rows of a part (default: 10000; with --ray 1000)")
    parser.add_argument("--ray", metavar="ADDRESS", help="count on a Ray cluster; local starts one, auto finds one")
    parser.add_argument("--actors", type=int, metavar="N", help="counters on it, at most (default: 1)")
    parser.add_argument("--resume", action="store_true", help="go on with a job that was stopped; without one, begin")
    parser.add_argument("--save", metavar="PATH", help="picture with the heads drawn in; a folder for several inputs")
    parser.add_argument("--save-map", metavar="PATH", help="density map as .npy; a folder for several inputs")


def reading(options: argparse.Namespace) -> dict[str, Any]:
    """How pictures are read, as far as it was said; arguments of ``CrowdCounter.count``."""
    said: dict[str, Any] = {} if options.page is None else {"page": options.page}
    return said if options.exif_orientation else {**said, "exif_orientation": False}
