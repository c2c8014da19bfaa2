"""The bundle's kernels as the engine launches them: the list of the bundle, real cuda-bindings, and memory with guards.

Without a GPU the driver below the bindings is a fake one, which runs each kernel's source in Triton's interpreter with
the grid, the addresses and the block sizes that it was handed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from light.oracle import attention, cases, find_peaks
from suite.gpu import Gpu

from engine.bundle.bundle import Bundle, load_bundle
from engine.bundle.cubins import CUBINS_FILE, Cubins, load_cubins, pack_cubins
from engine.errors import BundleError

ON_GPU = torch.cuda.is_available()
DTYPES = pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
BUNDLE = load_bundle("default")
CASES = list(cases(BUNDLE, 2))


@pytest.fixture
def _device() -> Iterator[None]:
    if ON_GPU:
        yield
        return
    from backends.cuda.interpreted_gpu import InterpretedGpu

    driver = InterpretedGpu(BUNDLE)
    yield
    driver.assert_clean()


@pytest.mark.usefixtures("_device")
@DTYPES
@pytest.mark.parametrize(("name", "run"), CASES, ids=[name for name, _ in CASES])
def test_each_kernel_is_the_oracle(name: str, run: Any, dtype: str) -> None:
    gpu = Gpu(dtype, BUNDLE)
    compared = run(gpu)
    gpu.close()
    assert max(x.error() for x in compared) <= 1, name


def _with_blocks(folder: Path, **blocks: int) -> Bundle:
    """The default bundle, as if its kernels were compiled with other block sizes, by kernel."""
    cubins = load_cubins(BUNDLE.path)
    entries = []
    for entry in cubins.entries:
        kernel = entry["kernel"].replace(".", "_")
        changed = {key.removeprefix(f"{kernel}_"): size for key, size in blocks.items() if key.startswith(kernel)}
        entries.append({**entry, "blocks": {**entry["blocks"], **changed}})
    return _repacked(folder, cubins, entries)


def _repacked(folder: Path, cubins: Cubins, entries: list[dict[str, Any]]) -> Bundle:
    files = {entry["file"]: cubins.read(entry["file"]) for entry in entries}
    (folder / CUBINS_FILE).write_bytes(pack_cubins(entries, files, cubins.compiler))
    return dataclasses.replace(BUNDLE, path=folder)


@pytest.mark.skipif(ON_GPU, reason="a real cubin has the block sizes that it was compiled with")
@pytest.mark.parametrize("block", [16, 64, 4096])
def test_peaks_in_blocks_of_any_size(tmp_path: Path, block: int) -> None:
    """The buffer of counts is as large as the kernel that writes them needs, whatever it was compiled with."""
    from backends.cuda.interpreted_gpu import InterpretedGpu

    driver = InterpretedGpu(_with_blocks(tmp_path, find_peaks_count_BLOCK=block, find_peaks_write_BLOCK=block))
    gpu = Gpu("float16", dataclasses.replace(BUNDLE, path=tmp_path))
    assert max(x.error() for x in find_peaks(gpu, (20, 31, 9))) == 0
    gpu.close()
    driver.assert_clean()
    (grid,) = {shape[:3] for _, shape, _ in driver.launches}
    assert grid == (-(-620 // block), 1, 1)


@pytest.mark.skipif(ON_GPU, reason="a real cubin has the block sizes that it was compiled with")
@pytest.mark.parametrize(("rows", "columns", "channels"), [(16, 64, 64), (64, 16, 32)])
def test_attention_in_blocks_of_any_size(tmp_path: Path, rows: int, columns: int, channels: int) -> None:
    from backends.cuda.interpreted_gpu import InterpretedGpu

    blocks = {
        f"criss_cross_attention_{part}_BLOCK_{axis}": size
        for part in ("rows", "columns")
        for axis, size in (("M", rows), ("N", columns), ("C", channels))
    }
    driver = InterpretedGpu(_with_blocks(tmp_path, **blocks))
    gpu = Gpu("float16", dataclasses.replace(BUNDLE, path=tmp_path))
    assert max(x.error() for x in attention(gpu, (1, 3, 35, 32, 64))) <= 1
    gpu.close()
    driver.assert_clean()


def test_peaks_that_are_counted_and_written_in_other_blocks_are_refused(tmp_path: Path) -> None:
    bundle = _with_blocks(tmp_path, find_peaks_count_BLOCK=64)
    if not ON_GPU:
        from backends.cuda.fake_driver import FakeDriver

        FakeDriver()
    gpu = Gpu("float16", bundle)
    with pytest.raises(BundleError, match="to count in blocks of 64 cells and to write in blocks of 256"):
        gpu.kernels.new_peaks(gpu.memory, 4, 4)
    gpu.close()
