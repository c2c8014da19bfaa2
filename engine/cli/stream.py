"""``crowd stream``: count the people in a video, a folder of pictures or a camera, frame by frame."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from engine.cli import zones
from engine.cli.counter_options import CounterFactory, make_counter
from engine.cli.inputs import stream_source
from engine.cli.needed_options import refuse_alone
from engine.cli.outputs import STDOUT, check_output_file, files_of_settings, refuse_shared_files
from engine.cli.terminal import Status, say
from engine.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from engine.cli.stream_outputs import StreamOutputs
    from engine.stream.frame import FrameResult

# What it does, and examples.
TEXTS = (
    "count in a video, a folder or a camera",
    "crowd stream match.mp4 --save counted.mp4 --csv counts.csv\n"
    "  crowd stream 0 --show\n"
    "  crowd stream rtsp://camera/live --zone 'gate=0%,50% 50%,50% 50%,100%' --alert gate=50:40 --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that are this command's own."""
    parser.add_argument("source", metavar="SOURCE", help="video file, folder, URL, or number of a camera")
    parser.add_argument("--fps", type=float, help="frames a second to count (default: all); of a folder, its rate")
    parser.add_argument(
        "--every", type=float, metavar="S", help="a frame every S seconds; asks an address of one picture so often"
    )
    parser.add_argument(
        "--live",
        action=argparse.BooleanOptionalAction,
        help="newest frame only (default: for cameras and streams, not for files)",
    )
    parser.add_argument(
        "--warm-start", action=argparse.BooleanOptionalAction, help="start from the heads of the frame before"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="stop after N frames")
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds to wait for a camera or server")
    parser.add_argument(
        "--give-up", type=float, metavar="S", help="seconds to try a lost camera for (default: 300); inf: without end"
    )
    parser.add_argument("--steps", type=int, help="denoising steps (default: the model's own)")
    zones.add_arguments(parser, alerts=True)
    parser.add_argument("--json", nargs="?", const=STDOUT, metavar="FILE", help="a line of JSON for each frame")
    parser.add_argument("--csv", nargs="?", const=STDOUT, metavar="FILE", help="a row of CSV for each frame")
    parser.add_argument(
        "--append", action="store_true", help="add to the files of --json and --csv, as after a restart"
    )
    parser.add_argument("--csv-bom", action="store_true", help="begin the CSV with a mark by which Excel knows UTF-8")
    parser.add_argument("--save", metavar="VIDEO", help="video with the heads drawn in: .mp4, .mov or .mkv")
    parser.add_argument("--save-maps", metavar="FOLDER", help="density map of each frame as .npy")
    parser.add_argument("--show", nargs="?", type=int, const=0, metavar="PORT", help="a live page for this machine")
    parser.add_argument("--quiet", action="store_true", help="no text; only errors, alerts and what was asked for")


def run(options: argparse.Namespace, factory: CounterFactory) -> int:
    """Count; 0 at the end of the source, 1 if it failed, 130 if it was interrupted. Outputs are complete then."""
    # Here, so that --help loads no array library.
    from engine.cli.stream_outputs import StreamOutputs

    _check(options)
    layout = zones.read_layout(options)
    with contextlib.ExitStack() as stack:
        counter = stack.enter_context(contextlib.closing(make_counter(options, factory, options.steps)))
        stream = stack.enter_context(counter.stream(stream_source(options.source), zones=layout, **_settings(options)))
        # Not before: a source that cannot be opened leaves the files of an earlier run alone.
        outputs = stack.enter_context(StreamOutputs(options, layout))
        status = _count(stream, outputs, options)
        if not options.quiet:
            say(outputs.summary(stream.dropped))
    return status


def _count(stream: Iterator[FrameResult], outputs: StreamOutputs, options: argparse.Namespace) -> int:
    """Read the stream to its end. What ends it early does not spoil what was written until then."""
    counted = 0
    try:
        while options.limit is None or counted < options.limit:
            try:
                frame = next(stream, None)
            except EngineError as error:
                say(error)
                return Status.FAILED
            if frame is None:
                break
            counted += 1
            outputs.write(frame)
    except KeyboardInterrupt:
        say("interrupted")
        return Status.INTERRUPTED
    return Status.OK


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``CrowdCounter.stream``, as far as they were given."""
    names = ("fps", "every", "live", "warm_start", "timeout", "give_up")
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _check(options: argparse.Namespace) -> None:
    refuse_alone(options, {"csv_bom": ("csv",), "append": ("json", "csv")})
    check_output_file("--json", options.json)
    check_output_file("--csv", options.csv)
    if options.json == options.csv == STDOUT:
        raise ConfigError("--json and --csv cannot both go to stdout; give one of them a FILE")
    outputs = {"--json": options.json, "--csv": options.csv, "--save": options.save, "--save-maps": options.save_maps}
    refuse_shared_files(outputs, [options.source, *files_of_settings(options)])
    if options.limit is not None and options.limit < 1:
        raise ConfigError(f"--limit must be at least 1, got {options.limit}")
