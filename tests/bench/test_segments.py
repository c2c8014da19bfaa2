"""The arithmetic of compiled segments, against that of the PyTorch network they were exported from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from int8_bundle import NEEDS_INT8
from suite.segments import Record, multiply_adds

import engine


def _layers(network: torch.nn.Module, picture: np.ndarray) -> int:
    """Multiply-adds of the convolutions and linear layers that ran, from their weights and outputs."""
    total = 0

    def add(layer: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * layer.weight[0].numel()

    hooks = [
        layer.register_forward_hook(add)
        for layer in network.modules()
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)
    ]
    with engine.CrowdCounter(backend="torch", steps=2) as counter:
        counter._open_backend()._network._denoiser.network = network
        counter.count(picture)
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.parametrize("counts", [1, 3])
@pytest.mark.parametrize("compute_type", ["float32", pytest.param("int8", marks=NEEDS_INT8)])
def test_multiply_adds_are_those_of_the_network(compute_type, counts):
    picture = np.zeros((96, 128, 3), np.uint8)
    with engine.CrowdCounter(backend="torch") as counter:
        network = counter._open_backend()._network._denoiser.network
        # The signature is a product without a layer.
        expected = _layers(network, picture) + network.encoder.signature.weight.numel()
    record = Record(counts)
    with engine.CrowdCounter(compute_type=compute_type, performance="latency", steps=2) as counter:
        with record.watching():
            for _ in range(counts):
                counter.count(picture)
        models = counter._open_backend()._models
        found = {
            graph: record.runs(graph) * multiply_adds(models, stage, shapes)
            for graph, (stage, shapes) in record.segments.items()
        }
    assert set(found) == {"encoder.0", "encoder.1", "encoder.2", "decoder.0", "decoder.1"}
    assert all(record.mean(graph) > 0 for graph in found)
    assert sum(found.values()) == expected
