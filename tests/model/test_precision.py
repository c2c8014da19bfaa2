"""Training computes in bfloat16 where the machine multiplies it, and in float32 elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.cli.machine import parse_cpuinfo
from engine.model import precision

CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(not CPUINFO.is_file(), reason="only Linux lists the processor's instructions")
def test_bfloat16_is_found_where_the_system_lists_it() -> None:
    _, features = parse_cpuinfo(CPUINFO.read_text())
    assert precision.has_bfloat16() == bool({"avx512_bf16", "amx_bf16", "bf16"} & set(features))


@pytest.mark.parametrize(("has", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_products_on_the_cpu(has, expected, monkeypatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: has)
    with precision.mixed_precision("cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected


def test_a_gpu_has_bfloat16_whatever_the_cpu(monkeypatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    monkeypatch.setattr(precision.torch, "autocast", lambda kind, dtype, enabled: (kind, dtype, enabled))
    assert precision.mixed_precision("cuda:0") == ("cuda", torch.bfloat16, True)
    assert precision.mixed_precision(torch.device("cpu")) == ("cpu", torch.bfloat16, False)
