"""Runs the example on a picture and compares what it prints with engine.CrowdCounter's result.

python compare_with_python.py COUNT_PICTURE PICTURE
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np

import engine


def main(program: str, picture: str) -> None:
    """Exit with a message unless count, interval, points and scores are the same."""
    done = subprocess.run([program, picture, sys.executable], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{program} failed: {done.stderr}")
    title, *rows = done.stdout.splitlines()
    with engine.CrowdCounter(device="cpu") as counter:
        result = counter.count(picture)
    assert result.count > 0, "nobody found"
    expected = f"{result.count} people ({result.interval[0]}-{result.interval[1]})"
    assert title == expected, f"C++ printed {title!r}, Python counted {expected!r}"
    heads = np.array([row.split() for row in rows], np.float32)
    assert np.array_equal(heads, np.column_stack([result.points, result.scores])), "other points or scores"


if __name__ == "__main__":
    main(*sys.argv[1:])
