"""Choosing, loading and launching compiled kernels, over the fake driver."""

from __future__ import annotations

import ctypes
import json
import math

import pytest
from backends.cuda.fake_driver import FakeDriver

from engine.backends.cuda.compiled import parse_kernels
from engine.backends.cuda.context import Context
from engine.backends.cuda.driver import CudaError
from engine.backends.cuda.graphs import record
from engine.backends.cuda.launcher import Launcher, choose_arch
from engine.backends.cuda.memory import DeviceBuffer
from engine.backends.cuda.streams import Stream
from engine.errors import BackendError, BundleError

VARIANT = {"dtype": "fp16", "D": 32, "C": 64}
# Triton's type -> what the driver reads, a value, and values that do not fit.
TYPES = {
    "*fp16": (ctypes.c_uint64, 2**63 + 5, [-1, 2**64]),
    "i8": (ctypes.c_int8, -128, [128]),
    "i16": (ctypes.c_int16, -5, [2**15]),
    "i32": (ctypes.c_int32, 2**31 - 1, [2**31, -(2**31) - 1]),
    "i64": (ctypes.c_int64, -(2**63), [2**63]),
    "u8": (ctypes.c_uint8, 255, [256, -1]),
    "u16": (ctypes.c_uint16, 65535, [65536]),
    "u32": (ctypes.c_uint32, 2**32 - 1, [2**32]),
    "u64": (ctypes.c_uint64, 2**64 - 1, [2**64]),
    "fp32": (ctypes.c_float, 0.25, []),
    "fp64": (ctypes.c_double, math.pi, []),
}


def _entry(**changes) -> dict:
    entry = {
        "kernel": "scale",
        "variant": VARIANT,
        "arch": 90,
        "file": "kernels/scale.90.cubin",
        "entry": "scale_kernel",
        "arguments": [["x", "*fp16"], ["n", "i32"], ["factor", "fp32"]],
        "aligned": [],
        "blocks": {"BLOCK": 64},
        "num_warps": 4,
        "shared": 0,
        "global_scratch": 0,
        "profile_scratch": 0,
        "compiler": {"triton": "3.9.0"},
    }
    # As it is read from the bundle.
    return json.loads(json.dumps({**entry, **changes}))


def _launcher(driver: FakeDriver, entries: list[dict], types: list, read=None) -> tuple[Context, Launcher]:
    driver.kernels["scale_kernel"] = ([*types, ctypes.c_uint64, ctypes.c_uint64], lambda *values: None)
    context = Context()
    return context, Launcher(context, entries, read or (lambda name: b"cubin of " + name.encode()))


def _launch(launcher: Launcher, arguments: dict, stream: Stream, grid: tuple[int, int, int] = (1, 1, 1)) -> None:
    launcher.launch(launcher.find("scale", VARIANT), grid, arguments, stream)


def test_a_launch_has_the_values_grid_and_block() -> None:
    driver = FakeDriver()
    context, launcher = _launcher(driver, [_entry()], [ctypes.c_uint64, ctypes.c_int32, ctypes.c_float])
    with context:
        stream = Stream(context)
        x = DeviceBuffer(context, 8, stream)
        for n in (64, 96):
            # The order of the names does not matter.
            _launch(launcher, {"factor": 0.5, "n": n, "x": x}, stream, (n // 32, 3, 1))
        stream.synchronize()
        assert driver.launches == [
            ("scale_kernel", (2, 3, 1, 128, 1, 1, 0), (x.pointer, 64, 0.5, 0, 0)),
            ("scale_kernel", (3, 3, 1, 128, 1, 1, 0), (x.pointer, 96, 0.5, 0, 0)),
        ]
        assert driver.names().count("cuModuleLoadData") == 1
        assert "cuFuncSetAttribute" not in driver.names()
        launcher.close()
        launcher.close()
        assert "module" not in driver.live.values()
    driver.assert_clean()


def test_what_is_not_aligned_is_refused() -> None:
    driver = FakeDriver()
    entry = _entry(aligned=["x", "n"])
    context, launcher = _launcher(driver, [entry], [ctypes.c_uint64, ctypes.c_int32, ctypes.c_float])
    with context:
        stream = Stream(context)
        for x, n in [(256, 8), (264, 16)]:
            with pytest.raises(BackendError, match=r"takes (x|n) as a multiple of 16, got (264|8)"):
                _launch(launcher, {"x": x, "n": n, "factor": 1.0}, stream)
        _launch(launcher, {"x": 256, "n": 16, "factor": 1.0}, stream)
    assert len(driver.launches) == 1


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_is_packed_as_it_is_and_refused_where_it_does_not_fit(kind) -> None:
    ctype, value, refused = TYPES[kind]
    # Small ones on either side, which a wrong size would shift.
    arguments = [["a", "i8"], ["b", kind], ["c", "i8"]]
    driver = FakeDriver()
    entry = _entry(arguments=arguments)
    context, launcher = _launcher(driver, [entry], [ctypes.c_int8, ctype, ctypes.c_int8])
    with context:
        stream = Stream(context)
        _launch(launcher, {"a": 1, "b": value, "c": -1}, stream)
        assert driver.launches[0][2] == (1, ctype(value).value, -1, 0, 0)
        for wrong in refused:
            with pytest.raises(BackendError, match="does not fit"):
                _launch(launcher, {"a": 1, "b": wrong, "c": -1}, stream)
        with pytest.raises(BackendError, match=f"takes b as .{kind[1:]}, got list"):
            _launch(launcher, {"a": 1, "b": [], "c": -1}, stream)
        assert len(driver.launches) == 1


def test_more_shared_memory_is_asked_for() -> None:
    driver = FakeDriver()
    entry = _entry(arguments=[], shared=65536, num_warps=8)
    context, launcher = _launcher(driver, [entry], [])
    with context:
        _launch(launcher, {}, Stream(context), (1, 1, 2))
    assert driver.launches[0][1] == (1, 1, 2, 256, 1, 1, 65536)
    (call,) = [call for call in driver.calls if call[0] == "cuFuncSetAttribute"]
    assert tuple(map(int, call[2:])) == (8, 65536)


def test_a_recorded_launch_needs_the_plain_pass_before() -> None:
    driver = FakeDriver()
    context, launcher = _launcher(driver, [_entry(arguments=[])], [])
    with context:
        stream = Stream(context)

        def work() -> None:
            _launch(launcher, {}, stream)

        with pytest.raises(BackendError, match="cannot load a module while a graph is recorded"):
            record(stream, work)
        work()
        graph = record(stream, work)
        graph.launch(stream)
        stream.synchronize()
    driver.assert_clean()


@pytest.mark.parametrize("number", range(6))
def test_a_failed_load_can_be_tried_again(number) -> None:
    driver = FakeDriver()
    context, launcher = _launcher(driver, [_entry(arguments=[], shared=50000)], [])
    with context:
        stream = Stream(context)
        driver._failing = len(driver.calls) + 1 + 3 * (number // 2)
        driver._code = 1
        with pytest.raises(CudaError, match="INVALID_VALUE"):
            _launch(launcher, {}, stream)
        _launch(launcher, {}, stream)
        assert len(driver.launches) == 1
        launcher.close()
    driver.assert_clean()


def test_unknown_kernels_and_arguments_are_named() -> None:
    driver = FakeDriver()
    context, launcher = _launcher(driver, [_entry()], [])
    with context:
        stream = Stream(context)
        with pytest.raises(BackendError, match=r"no kernel scale \{'C': 64, 'D': 16, 'dtype': 'fp16'\}.*only scale"):
            launcher.find("scale", {**VARIANT, "D": 16})
        with pytest.raises(BackendError, match="takes x, n, factor, got x, n"):
            _launch(launcher, {"x": 1, "n": 1}, stream)
        assert driver.launches == []


ATTENTION = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_C": 64}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"arguments": [["x", "fp12"]]}, "unknown type 'fp12'"),
        ({"arguments": [["x"]]}, "is not understood"),
        ({"arguments": [["x", 7]]}, "7 is no text"),
        ({"aligned": ["y"]}, "aligns y, which are not all arguments of it"),
        ({"global_scratch": 16}, "needs global_scratch memory"),
        ({"variant": {"D": [1]}}, r"\[1\] is no whole number"),
        ({"variant": 3}, "is not understood"),
        ({"num_warps": 3}, "num_warps is 3, expected a power of two from 1 to 32"),
        ({"num_warps": 64}, "64 is no whole number from 0 to 32"),
        ({"shared": -1}, "-1 is no whole number"),
        ({"blocks": [64]}, "is not understood"),
        ({"kernel": "ddim_update", "blocks": {}}, "lacks the block size BLOCK"),
        ({"kernel": "criss_cross_attention.rows", "blocks": {"BLOCK": 64}}, "lacks the block size BLOCK_M"),
        ({"kernel": "criss_cross_attention.rows", "variant": {"D": 32}, "blocks": ATTENTION}, "lacks C"),
        (
            {"kernel": "criss_cross_attention.rows", "variant": {"D": 32, "C": 96}, "blocks": ATTENTION},
            "its 96 channels are no multiple of BLOCK_C, 64",
        ),
        *(
            ({"blocks": {"BLOCK": wrong}}, "expected a power of two|is no whole number")
            for wrong in (0, -64, 63, 2**21, 64.0, True, "64", None, [64])
        ),
    ],
)
def test_a_list_that_no_kernel_of_ours_can_have_is_refused(changes, match) -> None:
    with pytest.raises(BundleError, match=match):
        parse_kernels([_entry(), _entry(**changes)])


@pytest.mark.parametrize("field", sorted(set(_entry()) - {"compiler"}))
def test_every_field_of_a_list_is_missed(field) -> None:
    entry = _entry()
    del entry[field]
    with pytest.raises(BundleError, match=f"lacks {field}.*run crowd export cubins"):
        parse_kernels([entry])


@pytest.mark.parametrize(
    ("capability", "arch"),
    [((8, 0), 80), ((8, 6), 86), ((8, 8), None), ((8, 9), 89), ((9, 0), 90), ((12, 0), 120)],
)
def test_a_device_gets_its_own_architecture(capability, arch) -> None:
    compiled = {80, 86, 89, 90, 120}
    if arch is None:
        with pytest.raises(BackendError, match=r"capability 8\.8, the model's kernels were compiled for 8\.0, 8\.6"):
            choose_arch(compiled, capability)
    else:
        assert choose_arch(compiled, capability) == arch


def test_only_binary_compatible_architectures_stand_in() -> None:
    assert choose_arch({80, 86, 90}, (8, 9)) == 86
    assert choose_arch({80, 90}, (8, 6)) == 80
    # Older majors, newer minors, boards, and what was compiled with an architecture's special instructions.
    for compiled, capability in [({80}, (7, 5)), ({86}, (8, 0)), ({86}, (8, 7)), ({120}, (12, 1)), (set(), (9, 0))]:
        with pytest.raises(BackendError, match="were compiled for"):
            choose_arch(compiled, capability)


def test_the_launcher_takes_the_device_s_architecture() -> None:
    entries = [_entry(arch=arch, file=f"{arch}", arguments=[]) for arch in (80, 86, 89, 90)]
    read = []
    driver = FakeDriver(capability=(8, 6))
    context, launcher = _launcher(driver, entries, [], lambda name: read.append(name) or b"cubin")
    with context:
        _launch(launcher, {}, Stream(context))
    assert read == ["86"]
    assert launcher.arch == 86
