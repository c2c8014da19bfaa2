"""The times and mean errors of docs/benchmarks.md, in one command: ``python bench/run.py [--data SHANGHAITECH]``.

Measures our errors (with --data: the folder of ShanghaiTech, held-out pictures), runs the suite, draws the plots and
prints a table of ours. Results go to bench/results/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from suite.accuracy import FILE, our_errors, summarise, with_errors
from suite.results import read, write

from engine.bundle.bundle import load_bundle

_ROOT = Path(__file__).parents[1]
# Last digits of the pictures that the shipped model was not trained on; its counting rule was fitted to them.
_HELD_OUT = ("--only-digit", "0", "--only-digit", "5")
_STEPS = ("1", "2", "3")
# The model's errors, not those of a machine's default type.
_COMPUTE_TYPE = "float32"


def main() -> int:
    """Run the command line; the exit status is that of the first part that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="ShanghaiTech's folder; without it the errors measured last are used")
    errors = "renew the errors alone (of --data, or those that were measured last); keep the times"
    parser.add_argument("--errors", action="store_true", help=errors)
    parser.add_argument("--quick", action="store_true", help="the suite's checks alone, without errors and plots")
    parser.add_argument("--results", type=Path, default=_ROOT / "bench" / "results" / "cpu.json")
    options = parser.parse_args()
    if options.errors and options.quick:
        parser.error("--errors is the opposite of --quick")
    options.results = options.results.resolve()
    if options.quick:
        return _suite(["--quick"])
    if options.data and (failed := _measure_errors(options.data)):
        return failed
    # A refused way fails the suite; the rest of its figures are still drawn.
    before = _written(options.results)
    failed = 0 if options.errors else _suite(["--results", str(options.results)])
    if failed and _written(options.results) == before:
        return failed
    from plot import draw_all, table

    results = read(options.results)
    if options.errors:
        results.rows = with_errors(results.rows, our_errors(load_bundle("default")))
        write(results, options.results)
    for path in draw_all(results, options.results.parent):
        print(path)
    print(table(results))
    return failed


def _written(file: Path) -> int | None:
    return file.stat().st_mtime_ns if file.is_file() else None


def _suite(arguments: list[str]) -> int:
    return _python(["-m", "pytest", "bench", "-q", *arguments])


def _measure_errors(data: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        chosen = ["--split", "train", *_HELD_OUT, "--steps", *_STEPS]
        chosen += ["--compute-type", _COMPUTE_TYPE, "--json", str(file)]
        failed = _python(["-m", "engine.cli.command", "eval", str(data.resolve()), *chosen])
        if not failed:
            summary = summarise(json.loads(file.read_text(encoding="utf-8")), load_bundle("default"))
            FILE.parent.mkdir(parents=True, exist_ok=True)
            FILE.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return failed


def _python(arguments: list[str]) -> int:
    # Without -P the source folder engine/, which lacks what is compiled, would be found first.
    return subprocess.run([sys.executable, "-P", *arguments], cwd=_ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
