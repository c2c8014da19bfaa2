"""What gives way when the simulated GPU's memory runs out."""

from __future__ import annotations

import pytest
from backends.cuda.foreign_arrays import Capsule
from backends.tensorrt.blobs import picture
from gpu_memory import device_bytes
from same_result import same_result

from engine.backends.cuda.driver import CudaOutOfMemoryError


def _used(gpu) -> int:
    return sum(len(m) for a, m in gpu._memories.items() if gpu.live[a] == "device")


def _graphs(gpu) -> int:
    return list(gpu.live.values()).count("executable")


@pytest.mark.parametrize(("size", "samples"), [((64, 96), 1), ((101, 333), 2)])
def test_the_budget_is_what_is_used(machine, gpu_bundle, size, samples) -> None:
    here = machine()
    with here.counter(samples=samples) as counter:
        # Both upload buffers.
        counter.count_batch([picture(*size), picture(*size)])
        used = _used(here.gpu)
    # The scratch memory of the stand-in's contexts, times and coefficients, one count for each block of cells.
    assert 0 < used - device_bytes(gpu_bundle, *size, samples) < 4096


def test_memory_that_runs_out_is_taken_from_older_graphs(machine) -> None:
    probe = machine()
    with probe.counter() as counter:
        counter.count(picture(64, 64))
        one = _used(probe.gpu)
    # Memory is there again once the stream has come to where it is freed.
    here = machine(memory=one * 3 // 2, eager=(True,))
    with here.counter() as counter:
        first = counter.count(picture(64, 64))
        counter.count(picture(64, 60))
        assert _graphs(here.gpu) == 1
        assert same_result(counter.count(picture(64, 64)), first)


def test_an_upload_takes_it_from_graphs(machine, caplog) -> None:
    with machine().counter() as counter:
        expected = counter.count(picture(66, 64))
    here = machine()
    with here.counter() as counter:
        for size in ((64, 64), (64, 60)):
            counter.count(picture(*size))
        # No more than the two graphs and the upload buffers have.
        here.gpu._memory = _used(here.gpu)
        assert same_result(counter.count(picture(66, 64)), expected)
        assert _graphs(here.gpu) == 1
    assert "2 cached graphs are given up to make room" in caplog.text


def test_the_copy_of_a_picture_on_the_device_takes_it_from_graphs(machine) -> None:
    here = machine()
    array = picture(64, 64)
    here.gpu.pictures.append(array)
    source = Capsule(here.gpu, array)
    with here.counter() as counter:
        expected = counter.count(array)
        here.gpu._memory = _used(here.gpu)
        image = counter._backend.snapshot(source, color="rgb")
        assert (source.deleted, _graphs(here.gpu)) == (1, 0)
        # For the graph beside the copy.
        here.gpu._memory *= 2
        assert same_result(counter.count(image), expected)


def test_what_cannot_be_copied_is_given_back(machine) -> None:
    here = machine()
    array = picture(64, 64)
    here.gpu.pictures.append(array)
    source = Capsule(here.gpu, array)
    with here.counter() as counter:
        here.gpu._memory = 0
        with pytest.raises(CudaOutOfMemoryError):
            counter._backend.snapshot(source, color="rgb")
        assert source.deleted == 1
