"""Memory does not grow with the pictures counted; and a claim in a header costs nothing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from reliability import memory_slope
from reliability.memory_slope import measure, slope
from reliability.mutations import claimed_png
from reliability.processes import describe, python, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")


def test_memory_stays(long_run: bool) -> None:
    """600 (20,000) pictures of 8 sizes. Seen would be a leak of 7 KiB (0.21 KiB) at each; the smallest has 12 KiB."""
    number = 20_000 if long_run else 600
    rows = measure(number, 8, number // 20)
    # KiB; the allocator keeps a few pages more now and then.
    assert slope(rows) * number / 2 < 2048


def test_a_leak_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 KiB at each picture, in place of a count."""
    kept: list[np.ndarray] = []

    class Leaking:
        def __init__(self, **_: object) -> None: ...

        def __enter__(self) -> Leaking:
            return self

        def __exit__(self, *_: object) -> None: ...

        def count(self, _: bytes) -> None:
            kept.append(np.ones(10 * 128))

    monkeypatch.setattr(memory_slope.engine, "CrowdCounter", Leaking)
    assert slope(measure(600, 8, 30)) * 300 > 2048


_SHORT_OF_MEMORY = """
import resource, sys
import numpy as np
import engine
small, large = np.zeros((64, 96, 3), np.uint8), np.zeros((1200, 1600, 3), np.uint8)
small[::7, ::5] = 255
room, threads = int(sys.argv[1]) << 20, int(sys.argv[2])
counter = engine.CrowdCounter(device="cpu", cpu_threads=threads)
expected = counter.count(small).heatmap
size = next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith("VmSize")) << 10
resource.setrlimit(resource.RLIMIT_AS, (size + room, -1))
try:
    counter.count(large)
    print("large counted")
except (engine.EngineError, MemoryError) as error:
    print("large refused:", error)
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
try:
    print("same" if np.array_equal(counter.count(small).heatmap, expected) else "WRONG")
except engine.EngineError as error:
    print("small refused:", error)
counter = engine.CrowdCounter(device="cpu", cpu_threads=threads)
print("same" if np.array_equal(counter.count(small).heatmap, expected) else "WRONG")
"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("room", [0, 20, 60])
def test_short_of_memory_a_counter_is_right_or_says_that_it_is_not(room: int, threads: int) -> None:
    """``room`` in MiB; more than is left, the large picture takes. A new counter is as good as ever."""
    done = run(python("-c", _SHORT_OF_MEMORY, str(room), str(threads)))
    assert done.returncode == 0, describe(done)
    assert "large refused" in done.stdout
    assert "WRONG" not in done.stdout
    assert done.stdout.splitlines()[-1] == "same"


# Headers that claim more than is read by default, one for each format that can be written by hand.
_BOMBS = {
    "png": claimed_png(20_000, 20_000),
    "png, far beyond": claimed_png(2**31 - 1, 2**31 - 1),
    "bmp": b"BM" + bytes(8) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
    + (20_000).to_bytes(4, "little") * 2 + b"\1\0\x18\0" + bytes(24),
    "gif": b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\0\0;",
    "ppm": b"P6 100000 100000 255\n",
    "tiff": b"II*\0\x08\0\0\0\x05\0" + b"".join(
        tag.to_bytes(2, "little") + b"\x04\0\1\0\0\0" + value.to_bytes(4, "little")
        for tag, value in ((256, 10**6), (257, 10**6), (258, 8), (262, 1), (273, 8))
    ) + bytes(4),
    "jpeg": b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\1\1\x11\0\xff\xda\0\x08\1\1\0\0\x3f\0"
    + bytes(50) + b"\xff\xd9",
    "webp": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\0\xff\xff\0",
}  # fmt: skip


@pytest.mark.parametrize("kind", _BOMBS)
def test_bombs_are_refused_without_memory_or_work(kind: str) -> None:
    """Each in a process that could hold none of them; the processor time is printed, for the table."""
    program = (
        "import sys, time, resource, warnings\nwarnings.simplefilter('ignore')\n"
        "from engine.errors import ImageError\nfrom engine.image.load import load_image\nimport numpy as np\n"
        "load_image(np.zeros((2, 2), np.uint8))\n"
        "data = bytes.fromhex(sys.argv[1])\n"
        "before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()\n"
        "try: load_image(data)\n"
        "except ImageError as error: print(error)\n"
        "took = time.process_time() - start\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, round(took * 1000, 2))\n"
    )
    done = run(python("-c", program, _BOMBS[kind].hex()), memory=1 << 30)
    assert done.returncode == 0, describe(done)
    *message, figures = done.stdout.splitlines()
    print(f"{kind}: {figures}")
    assert message
    assert "<bytes>" in message[0]
    assert int(figures.split()[0]) < 50 * 1024
