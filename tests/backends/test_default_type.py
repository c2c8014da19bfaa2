"""What "default" computes in on a CPU: the fastest type that the processor and the bundle have."""

from __future__ import annotations

from pathlib import Path

import pytest

import engine
from engine import _core
from engine.backends.openvino import backend
from engine.cli.machine import parse_cpuinfo
from engine.errors import BackendError

CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(not CPUINFO.is_file(), reason="only Linux lists the processor's instructions")
def test_int8_instructions_are_found_where_the_system_lists_them() -> None:
    _, features = parse_cpuinfo(CPUINFO.read_text())
    assert _core.has_int8_dot() == bool({"avx512_vnni", "avx_vnni"} & set(features))


@pytest.mark.parametrize("fits", [True, False], ids=["7-bits", "8-bits"])
@pytest.mark.parametrize("quantised", [True, False], ids=["int8-bundle", "float-bundle"])
@pytest.mark.parametrize("vnni", [True, False])
def test_int8_is_taken_where_the_processor_and_the_bundle_have_it(
    vnni, quantised, fits, gpu_bundle, monkeypatch
) -> None:
    monkeypatch.setattr(backend._core, "has_int8_dot", lambda: vnni)
    monkeypatch.setattr(backend, "fits_16_bits", lambda _: fits)
    monkeypatch.setattr(backend.platform, "machine", lambda: "x86_64")
    with engine.CrowdCounter("default" if quantised else gpu_bundle.path, backend="openvino") as counter:
        chosen = counter._open_backend().compute_type
    native = "BF16" in backend.ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert chosen == ("int8" if (vnni or fits) and quantised else "bfloat16" if native else "float32")


@pytest.mark.parametrize("machine", ["x86_64", "AMD64"])
def test_int8_is_refused_where_its_sums_overflow(machine, monkeypatch) -> None:
    monkeypatch.setattr(backend._core, "has_int8_dot", lambda: False)
    monkeypatch.setattr(backend.platform, "machine", lambda: machine)
    monkeypatch.setattr(backend, "fits_16_bits", lambda _: False)
    with pytest.raises(BackendError, match=r"no int8 dot products \(VNNI\).*counts are wrong; use .*'float32'"):
        engine.CrowdCounter(backend="openvino", compute_type="int8")


def test_int8_is_taken_by_name_on_other_processors(monkeypatch) -> None:
    """The overflow is x86's: its older instruction adds products in 16 bits."""
    monkeypatch.setattr(backend._core, "has_int8_dot", lambda: False)
    monkeypatch.setattr(backend.platform, "machine", lambda: "aarch64")
    with engine.CrowdCounter(backend="openvino", compute_type="int8") as counter:
        assert counter._open_backend().compute_type == "int8"
