"""Damaged videos through the reader: ``python -m reliability.mutated_videos`` from the folder ``tests``.

Of each, valid frames come out, if any, and then the end or a SourceError. Video number N is always the same, so what
was found can be looked at again: ``--first N --count 1 --show``. The last line is a summary in JSON. Needs PyAV.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from reliability.mutations import mutate
from videos import write_video

from engine.errors import SourceError
from engine.stream.opening import StreamOptions, open_source

_PICTURES = 8
# Name -> codec and pixel format.
_KINDS = {
    "mpeg4.mp4": ("mpeg4", "yuv420p"),
    "h264.mp4": ("libx264", "yuv420p"),
    "h264.ts": ("libx264", "yuv420p"),
    "mpeg4.avi": ("mpeg4", "yuv420p"),
    "mjpeg.avi": ("mjpeg", "yuvj420p"),
    "ffv1.mkv": ("ffv1", "yuv420p"),
    "mpeg2.mpg": ("mpeg2video", "yuv420p"),
    "vp8.webm": ("libvpx", "yuv420p"),
    "flv1.flv": ("flv", "yuv420p"),
    "mpeg4.mov": ("mpeg4", "yuv420p"),
    "theora.ogg": ("libtheora", "yuv420p"),
    "rgb.gif": ("gif", "rgb8"),
}
# A sound video has 8 frames. Damage may repeat some or claim more; a reader that gives so many goes round in circles.
_MANY = 10_000


def sound_videos(folder: Path) -> dict[str, bytes]:
    """Small videos by name: the usual containers and codecs, as far as this build of PyAV writes them."""
    import av

    rng = np.random.default_rng(0)
    base = np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    pictures = [np.roll(base, 3 * i, axis=1) for i in range(_PICTURES)]
    made = {}
    for name, (codec, pixels) in _KINDS.items():
        if codec in av.codecs_available:
            made[name] = write_video(folder / name, pictures, rate=25, codec=codec, pixels=pixels).read_bytes()
    return made


def video(number: int, files: dict[str, bytes]) -> tuple[str, bytes]:
    """Damaged video number ``number``: the sound file that it was, and its bytes."""
    names = list(files)
    name = names[number % len(names)]
    rng = np.random.default_rng(number)
    return name, mutate(files[name], rng, files[names[int(rng.integers(0, len(names)))]])


def try_one(path: Path) -> tuple[str, int, str | None]:
    """What came of the file, how many frames it gave, and what is wrong with that."""
    frames = 0
    try:
        for frame in open_source(path, StreamOptions()).frames():
            frames += 1
            pixels = frame.image
            if not (pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size > 0):
                return "raised", frames, f"an array {pixels.dtype} {pixels.shape}"
            if frames == _MANY:
                return "endless", frames, f"{frames} frames and no end"
    except SourceError as error:
        return ("cut" if frames else "refused"), frames, _out_of_memory(error)
    except BaseException as error:
        return "raised", frames, f"{type(error).__name__}: {error}"
    return "read", frames, None


def _out_of_memory(error: BaseException) -> str | None:
    return "out of memory" if isinstance(error.__cause__, MemoryError) and "limit" not in str(error) else None


def storm(first: int, count: int, marker: Path | None) -> dict[str, Any]:
    """Try ``count`` videos; ``marker`` is a file that always holds the number in hand, for when the process dies."""
    outcomes: Counter[str] = Counter()
    problems: list[str] = []
    slowest = (0.0, 0)
    with tempfile.TemporaryDirectory() as folder:
        files = sound_videos(Path(folder))
        for name in files:
            outcome, frames, _ = try_one(Path(folder, name))
            assert (outcome, frames) == ("read", _PICTURES), f"not even sound: {name}: {outcome}, {frames} frames"
        for number in range(first, first + count):
            name, data = video(number, files)
            path = Path(folder, f"damaged{Path(name).suffix}")
            path.write_bytes(data)
            if marker is not None:
                marker.write_text(str(number))
            # Time of the processor: a busy machine is not a slow video.
            start = time.process_time()
            outcome, frames, problem = try_one(path)
            slowest = max(slowest, (time.process_time() - start, number))
            outcomes[outcome] += 1
            if problem is not None:
                problems.append(f"video {number} ({name}): {problem}")
    return {
        "videos": count,
        **outcomes,
        "kinds": list(files),
        "problems": problems,
        "slowest_cpu_ms": round(slowest[0] * 1000, 1),
        "slowest_video": slowest[1],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--marker", type=Path, help="file that holds the number of the video in hand")
    parser.add_argument("--show", action="store_true", help="write the videos to the current folder instead")
    options = parser.parse_args()
    if options.show:
        with tempfile.TemporaryDirectory() as folder:
            files = sound_videos(Path(folder))
        for number in range(options.first, options.first + options.count):
            name, data = video(number, files)
            Path(f"{number}.{name}").write_bytes(data)
        return 0
    faulthandler.enable()
    start = time.perf_counter()
    report = storm(options.first, options.count, options.marker)
    print(json.dumps({**report, "seconds": round(time.perf_counter() - start, 1)}))
    return 1 if report["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
