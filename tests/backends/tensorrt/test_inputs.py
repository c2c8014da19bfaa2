"""Batches whose uploads overlap, and pictures that lie on the device already, on a simulated GPU."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from backends.cuda.foreign_arrays import KINDS
from backends.cuda.simulated_device import PRIMARY
from backends.tensorrt.blobs import picture
from same_result import same_result

import engine
from engine.errors import BackendError, ConfigError, ImageError

SIZES = [(32, 64), (32, 64), (64, 32), (32, 64), (64, 64), (64, 64), (64, 64)]


# The computing stream, and those that upload, run as late or as soon as their events let them.
@pytest.mark.parametrize("eager", list(itertools.product([False, True], repeat=4)), ids=str)
def test_a_batch_equals_singles_in_every_order_of_the_streams(machine, eager) -> None:
    images = [picture(*size, seed=seed) for seed, size in enumerate(SIZES)]
    with machine().counter() as counter:
        expected = [counter.count(image, steps=2) for image in images]
    with machine(eager=eager).counter() as counter:
        for _ in range(2):
            batch = counter.count_batch(iter(images), steps=2)
            assert all(same_result(a, b) for a, b in zip(batch, expected, strict=True))
        assert counter.count_batch([]) == []


def test_the_next_picture_is_uploaded_while_one_is_computed(machine) -> None:
    here = machine()
    with here.counter() as counter:
        images = [picture(64, 64, seed=seed) for seed in range(4)]
        counter.count_batch(images)
        here.gpu.calls.clear()
        counter.count_batch(images)
        kinds = {"cuMemcpyHtoDAsync": "upload", "cuGraphLaunch": "launch", "cuEventElapsedTime": "collect"}
        order = [kinds[name] for name in here.gpu.names() if name in kinds]
        middle = ["upload", "collect", "launch"] * 3
        assert order == ["upload", "launch", *middle, "collect"]
        assert "cuMemAllocHost" not in here.gpu.names()


def test_a_picture_of_the_batch_may_come_from_a_count(machine) -> None:
    """A graph whose result nobody has fetched yet is launched again."""
    images = [picture(64, 64, seed=seed) for seed in range(3)]
    with machine().counter() as counter:
        expected = [counter.count(image) for image in images]

        def pictures():
            for image in images:
                counter.count(image[::-1])
                yield image

        assert all(same_result(a, b) for a, b in zip(counter.count_batch(pictures()), expected, strict=True))


def test_a_bad_picture_ends_the_batch_and_nothing_else(machine) -> None:
    with machine().counter() as counter:
        expected = counter.count(picture(64, 64))
        with pytest.raises(ImageError, match="shape"):
            counter.count_batch([picture(64, 64), np.zeros(3, np.uint8), picture(64, 64)])
        assert same_result(counter.count(picture(64, 64)), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["rows", "padded", "bgr", "planes", "grey"])
def test_pictures_on_the_device_stay_there(machine, kind, layout) -> None:
    here = machine()
    rgb = picture(40, 72)
    padded = np.zeros((40, 100, 3), np.uint8)
    padded[:, :72] = rgb
    array, color = {
        "rows": (rgb, "rgb"),
        "padded": (padded[:, :72], "rgb"),
        "bgr": (np.ascontiguousarray(rgb[..., ::-1]), "bgr"),
        "planes": (np.ascontiguousarray(rgb.transpose(2, 0, 1)), "rgb"),
        "grey": (np.ascontiguousarray(rgb[..., 0]), "rgb"),
    }[layout]
    here.gpu.pictures.append(array)
    with here.counter() as counter:
        expected = counter.count(array if layout != "planes" else rgb, color=color)
        source = KINDS[kind](here.gpu, array)
        here.gpu.calls.clear()
        results = [counter.count(source, color=color) for _ in range(2)]
        assert all(same_result(result, expected) for result in results)
        assert not {"cuMemcpyHtoDAsync", "cuMemAllocHost"} & set(here.gpu.names())
        assert getattr(source, "deleted", 2) == 2
        # The picture is not on the host: a plot takes it.
        with pytest.raises(engine.EngineError, match="pass it"):
            results[0].plot()
        assert results[0].plot(rgb).size == (72, 40)


def test_the_callers_stream_is_waited_for_on_the_device(machine) -> None:
    here = machine()
    array = picture(32, 32)
    here.gpu.pictures.append(array)
    here.gpu.callers_streams[0x77] = PRIMARY
    here.gpu.streams[0x77] = here.gpu.streams[1]
    with here.counter() as counter:
        expected = counter.count(array)
        source = KINDS["interface"](here.gpu, array)
        here.gpu.calls.clear()
        assert same_result(counter.count(source, stream=0x77), expected)
        # An event of the caller's stream, and ours waits for it before the picture is read.
        names = here.gpu.names()
        calls = [call for call in here.gpu.calls if call[0] == "cuEventRecord"]
        assert calls[0][2] == 0x77
        assert names.index("cuStreamWaitEvent") < names.index("cuLaunchKernel")
        with pytest.raises(BackendError, match="stream must be"):
            counter.count(source, stream="fast")
        with pytest.raises(ConfigError, match="stream goes with"):
            counter.count(array, stream=0x77)
        with pytest.raises(ConfigError, match="color"):
            counter.count(source, color="hsv")


def test_large_pictures_on_the_device_are_tiled(machine, monkeypatch) -> None:
    plan = engine.counting.stitching.plan_tiles
    monkeypatch.setattr(
        "engine.counting.stitching.plan_tiles", lambda h, w: plan(h, w, max_pixels=64 * 64, side=96, halo=32)
    )
    here = machine()
    array = picture(100, 180)
    here.gpu.pictures.append(array)
    source = KINDS["capsule"](here.gpu, array)
    with here.counter() as counter:
        assert same_result(counter.count(source), counter.count(array))
        assert source.deleted == 1


def test_the_cpu_refuses_what_lies_on_a_device() -> None:
    source = KINDS["interface"](SimpleNamespace(foreign={}), picture(32, 32))
    with engine.CrowdCounter(device="cpu") as counter:
        with pytest.raises(ImageError, match=r"<Interface> lies in CUDA memory, the counter runs on cpu"):
            counter.count(source)
        with pytest.raises(ConfigError, match="stream goes with"):
            counter.count(picture(32, 32), stream=0)
