"""Choosing, loading and launching compiled kernels, over the stand-in for the driver."""

from __future__ import annotations

import ctypes
import json
import math

import pytest
from backends.cuda.recording_driver import RecordingDriver

from engine.backends.cuda.context import Context
from engine.backends.cuda.driver import CudaError, Driver
from engine.backends.cuda.graphs import record
from engine.backends.cuda.launcher import Launcher, choose_arch, evaluate
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
        "grid": ["cdiv(n, 64)", "lines"],
        "num_warps": 4,
        "shared": 0,
        "global_scratch": 0,
        "profile_scratch": 0,
        "compiler": {"triton": "3.9.0"},
    }
    # As it is read from the bundle.
    return json.loads(json.dumps({**entry, **changes}))


def _launcher(driver: RecordingDriver, entries: list[dict], types: list, read=None) -> tuple[Context, Launcher]:
    driver.kernels["scale_kernel"] = ([*types, ctypes.c_uint64, ctypes.c_uint64], lambda *values: None)
    context = Context(0, Driver(driver))
    return context, Launcher(context, entries, read or (lambda name: b"cubin of " + name.encode()))


def test_a_launch_has_the_values_grid_and_block() -> None:
    driver = RecordingDriver()
    context, launcher = _launcher(driver, [_entry()], [ctypes.c_uint64, ctypes.c_int32, ctypes.c_float])
    with context:
        stream = Stream(context)
        x = DeviceBuffer(context, 8, stream)
        for n in (64, 65):
            # The order of the names does not matter.
            launcher.launch("scale", VARIANT, {"factor": 0.5, "n": n, "x": x}, stream, {"lines": 3})
        stream.synchronize()
        assert driver.launches == [
            ("scale_kernel", (1, 3, 1, 128, 1, 1, 0), (x.pointer, 64, 0.5, 0, 0)),
            ("scale_kernel", (2, 3, 1, 128, 1, 1, 0), (x.pointer, 65, 0.5, 0, 0)),
        ]
        assert driver.names().count("cuModuleLoadData") == 1
        assert "cuFuncSetAttribute" not in driver.names()
        launcher.close()
        launcher.close()
        assert "module" not in driver.live.values()
    driver.assert_clean()


def test_what_is_not_aligned_is_refused() -> None:
    driver = RecordingDriver()
    entry = _entry(aligned=["x", "n"])
    context, launcher = _launcher(driver, [entry], [ctypes.c_uint64, ctypes.c_int32, ctypes.c_float])
    with context:
        stream = Stream(context)
        for x, n in [(256, 8), (264, 16)]:
            with pytest.raises(BackendError, match=r"takes (x|n) as a multiple of 16, got (264|8)"):
                launcher.launch("scale", VARIANT, {"x": x, "n": n, "factor": 1.0}, stream, {"lines": 1})
        launcher.launch("scale", VARIANT, {"x": 256, "n": 16, "factor": 1.0}, stream, {"lines": 1})
    assert len(driver.launches) == 1


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_is_packed_as_it_is_and_refused_where_it_does_not_fit(kind) -> None:
    ctype, value, refused = TYPES[kind]
    # Small ones on either side, which a wrong size would shift.
    arguments = [["a", "i8"], ["b", kind], ["c", "i8"]]
    driver = RecordingDriver()
    entry = _entry(arguments=arguments, grid=["1"])
    context, launcher = _launcher(driver, [entry], [ctypes.c_int8, ctype, ctypes.c_int8])
    with context:
        stream = Stream(context)
        launcher.launch("scale", VARIANT, {"a": 1, "b": value, "c": -1}, stream)
        assert driver.launches[0][2] == (1, ctype(value).value, -1, 0, 0)
        for wrong in refused:
            with pytest.raises(BackendError, match="does not fit"):
                launcher.launch("scale", VARIANT, {"a": 1, "b": wrong, "c": -1}, stream)
        with pytest.raises(BackendError, match=f"takes b as .{kind[1:]}, got list"):
            launcher.launch("scale", VARIANT, {"a": 1, "b": [], "c": -1}, stream)
        assert len(driver.launches) == 1


def test_more_shared_memory_is_asked_for() -> None:
    driver = RecordingDriver()
    entry = _entry(arguments=[], grid=["1", "1", "2"], shared=65536, num_warps=8)
    context, launcher = _launcher(driver, [entry], [])
    with context:
        launcher.launch("scale", VARIANT, {}, Stream(context))
    assert driver.launches[0][1] == (1, 1, 2, 256, 1, 1, 65536)
    (call,) = [call for call in driver.calls if call[0] == "cuFuncSetAttribute"]
    assert tuple(map(int, call[2:])) == (8, 65536)


def test_a_recorded_launch_needs_the_plain_pass_before() -> None:
    driver = RecordingDriver()
    context, launcher = _launcher(driver, [_entry(arguments=[], grid=["1"])], [])
    with context:
        stream = Stream(context)

        def work() -> None:
            launcher.launch("scale", VARIANT, {}, stream)

        with pytest.raises(BackendError, match="cannot load a module while a graph is recorded"):
            record(stream, work)
        work()
        graph = record(stream, work)
        graph.launch(stream)
        stream.synchronize()
    driver.assert_clean()


@pytest.mark.parametrize("number", range(6))
def test_a_failed_load_can_be_tried_again(number) -> None:
    driver = RecordingDriver()
    context, launcher = _launcher(driver, [_entry(arguments=[], grid=["1"], shared=50000)], [])
    with context:
        stream = Stream(context)
        driver._failing = len(driver.calls) + 1 + 3 * (number // 2)
        driver._code = 1
        with pytest.raises(CudaError, match="INVALID_VALUE"):
            launcher.launch("scale", VARIANT, {}, stream)
        launcher.launch("scale", VARIANT, {}, stream)
        assert len(driver.launches) == 1
        launcher.close()
    driver.assert_clean()


def test_unknown_kernels_and_arguments_are_named() -> None:
    driver = RecordingDriver()
    context, launcher = _launcher(driver, [_entry()], [])
    with context:
        stream = Stream(context)
        with pytest.raises(BackendError, match=r"no kernel scale \{'C': 64, 'D': 16, 'dtype': 'fp16'\}.*only scale"):
            launcher.launch("scale", {**VARIANT, "D": 16}, {}, stream)
        with pytest.raises(BackendError, match="takes x, n, factor, got x, n"):
            launcher.launch("scale", VARIANT, {"x": 1, "n": 1}, stream)
        with pytest.raises(BackendError, match="the grid needs 'lines', got x, n, factor"):
            launcher.launch("scale", VARIANT, {"x": 1, "n": 1, "factor": 1.0}, stream)
        assert driver.launches == []


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"arguments": [["x", "fp12"]]}, "unknown type 'fp12'"),
        ({"global_scratch": 16}, "needs global_scratch memory"),
        ({"grid": []}, "expected 1 to 3 rules"),
        ({"grid": ["1"] * 4}, "expected 1 to 3 rules"),
    ],
)
def test_a_manifest_of_another_version_is_refused(changes, match) -> None:
    with Context(0, Driver(RecordingDriver())) as context, pytest.raises(BundleError, match=match):
        Launcher(context, [_entry(**changes)], lambda name: b"")


@pytest.mark.parametrize("field", sorted(set(_entry()) - {"compiler"}))
def test_every_field_of_a_manifest_is_missed(field) -> None:
    entry = _entry()
    del entry[field]
    with Context(0, Driver(RecordingDriver())) as context, pytest.raises(BundleError, match=f"lacks {field}"):
        Launcher(context, [entry], lambda name: b"")


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
    entries = [_entry(arch=arch, file=f"{arch}", arguments=[], grid=["1"]) for arch in (80, 86, 89, 90)]
    read = []
    driver = RecordingDriver(capability=(8, 6))
    context, launcher = _launcher(driver, entries, [], lambda name: read.append(name) or b"cubin")
    with context:
        launcher.launch("scale", VARIANT, {}, Stream(context))
    assert read == ["86"]
    assert launcher.arch == 86


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("7", 7),
        ("n", 65),
        ("cdiv(n, 64)", 2),
        ("cdiv(64, 64)", 1),
        ("min(n, m) * 2 - 1 + n // 4", 21),
        ("max(n, m)", 65),
    ],
)
def test_grid_rules(rule, value) -> None:
    assert evaluate(rule, {"n": 65, "m": 3}) == value


@pytest.mark.parametrize(
    "rule",
    ["__import__('os')", "n.bit_length()", "n ** 9", "n / 2", "True", "1.5", "[n]", "n; n", "", "cdiv(n)", "n // 0",
     "lambda: n", "cdiv(n, 64, n)", "-n", "(n := 1)"],
)  # fmt: skip
def test_grid_rules_run_nothing_else(rule) -> None:
    with pytest.raises(BundleError, match="is not understood"):
        evaluate(rule, {"n": 65})
