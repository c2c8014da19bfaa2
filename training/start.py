"""Weights to start a run from: those of a checkpoint, or of a bundle with its batch norms put back."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from engine.bundle.bundle import MANIFEST_FILE, load_bundle
from engine.config import CountingRule, ModelConfig
from engine.model.checkpoint import load_counting, load_network
from engine.model.layers import ConvNorm, channels_last
from engine.model.network import CrowdNetwork
from engine.training.batches import Batches

# Batches that the statistics of the batch norms are taken from.
_BATCHES = 12


def is_bundle(start: str | Path) -> bool:
    """Whether ``start`` names a bundle: "default", or a folder with a manifest."""
    return str(start) == "default" or (Path(start) / MANIFEST_FILE).is_file()


def start_model(start: str | Path) -> ModelConfig:
    """Shape of the network that :func:`start_network` gives; the same arguments and errors."""
    return load_bundle(start).model if is_bundle(start) else load_network(Path(start)).config


def start_counting(start: str | Path) -> dict[int, CountingRule]:
    """Counting rules of ``start`` by number of steps; none of a checkpoint that was not calibrated."""
    if is_bundle(start):
        return load_bundle(start).counting
    return load_counting(Path(start))


def start_network(start: str | Path, batches: Batches) -> CrowdNetwork:
    """The network of a checkpoint or bundle, ready to be trained on.

    Args:
        start: a checkpoint of :mod:`engine.training`, a bundle folder, or "default" for the shipped model.
        batches: crops that stand for what the network will see; a bundle's batch norms are fitted to them.

    Raises:
        ConfigError: there is no such checkpoint.
        BundleError: the bundle is damaged.
    """
    if not is_bundle(start):
        return load_network(Path(start))
    # Here and not above: a run from a checkpoint does without safetensors.
    from engine.model.bundle_network import load_bundle_network

    return unfold_norms(load_bundle_network(load_bundle(start)), batches)


@torch.no_grad()
def unfold_norms(folded: CrowdNetwork, batches: Batches) -> CrowdNetwork:
    """A network with batch norms that computes what ``folded`` does.

    Export folds every norm into its convolution; without norms, training on is slow and touchy. So each
    convolution gets filters of length 1 and a norm with the statistics that its outputs have on ``batches``,
    scaled and shifted to undo it.
    """
    statistics = _output_statistics(folded, batches)
    network = CrowdNetwork(folded.config)
    state, old = network.state_dict(), folded.state_dict()
    state.update({name: value for name, value in old.items() if name in state})
    for name, layer in _conv_norms(network):
        assert isinstance(layer.norm, nn.BatchNorm2d)
        mean, variance = statistics[name]
        lengths = old[f"{name}.conv.weight"].flatten(1).norm(dim=1).clamp_min(1e-6)
        state[f"{name}.conv.weight"] = old[f"{name}.conv.weight"] / lengths[:, None, None, None]
        state[f"{name}.norm.running_mean"] = mean / lengths
        state[f"{name}.norm.running_var"] = variance / lengths**2
        state[f"{name}.norm.weight"] = (variance / lengths**2 + layer.norm.eps).sqrt() * lengths
        state[f"{name}.norm.bias"] = old[f"{name}.conv.bias"] + mean
    network.load_state_dict(state)
    return network.eval()


def _conv_norms(network: nn.Module) -> list[tuple[str, ConvNorm]]:
    return [(name, layer) for name, layer in network.named_modules() if isinstance(layer, ConvNorm)]


def _output_statistics(folded: CrowdNetwork, batches: Batches) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance [C] of every norm's input, without the convolution's bias."""
    sums: dict[str, list[Tensor]] = {}

    def hook(name: str, conv: nn.Conv2d) -> None:
        def collect(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            assert conv.bias is not None
            values = (output - conv.bias[:, None, None]).transpose(0, 1).flatten(1).double()  # [C, N]
            sums.setdefault(name, []).append(torch.stack([values.mean(dim=1), values.square().mean(dim=1)]))

        handles.append(conv.register_forward_hook(collect))

    handles: list = []
    for name, layer in _conv_norms(folded):
        hook(name, layer.conv)
    channels_last(folded)
    for number in range(_BATCHES):
        pixels, heads, _ = (x.cpu() for x in batches.make(number))
        features, *_ = folded.encoder(pixels)
        # From the clean map to pure noise: all that the decoder is trained on.
        clean = (2 * folded.fold(heads[:, None]) - 1) * folded.config.map_scale
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(number))
        t = torch.linspace(0, 1, len(pixels))
        weight = t[:, None, None, None]
        folded.decoder(features, (1 - weight) * clean + weight * noise, t)
    for handle in handles:
        handle.remove()
    means = {name: torch.stack(rows).mean(dim=0) for name, rows in sums.items()}
    return {name: (mean.float(), (square - mean**2).float()) for name, (mean, square) in means.items()}
