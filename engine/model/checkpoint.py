"""Checkpoints on disk: plain tensors and numbers, loaded without running code."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from engine.config import CountingRule, ModelConfig
from engine.errors import ConfigError
from engine.model.network import CrowdNetwork
from engine.system.files import whole_file


def save_whole(state: dict[str, Any], path: Path) -> None:
    """Write ``state`` to ``path`` whole or not at all."""
    with whole_file(path) as part:
        torch.save(state, part)


def load_state(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        ConfigError: there is no such file, or it is of another kind.
    """
    if not path.is_file():
        raise ConfigError(f"checkpoint {path} does not exist")
    with _checkpoint_errors(path):
        state: dict[str, Any] = dict(torch.load(path, map_location=device, weights_only=True))
    return state


def load_network(path: Path) -> CrowdNetwork:
    """The network of a checkpoint with its averaged weights, in eval mode.

    Raises:
        ConfigError: as of :func:`load_state`.
    """
    state = load_state(path)
    with _checkpoint_errors(path):
        network = CrowdNetwork(read_model_config(state["config"]["model"]))
        network.load_state_dict(state["average"])
    return network.eval()


def read_model_config(settings: dict[str, Any]) -> ModelConfig:
    """Settings as a checkpoint has them; lists, which JSON makes of tuples, are tuples again."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    return ModelConfig(**fields)


def load_counting(path: Path) -> dict[int, CountingRule]:
    """Counting rules of a checkpoint by number of steps; empty before calibration.

    Raises:
        ConfigError: as of :func:`load_state`.
    """
    state = load_state(path)
    with _checkpoint_errors(path):
        return {int(number): CountingRule(**rule) for number, rule in state.get("counting", {}).items()}


@contextmanager
def _checkpoint_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # They raise many types, and all of them mean the same to the caller.
        reason = f"{type(error).__name__}: {error}"
        if "weights_only" in reason:  # PyTorch's advice is to load it as a pickle.
            reason = type(error).__name__
        raise ConfigError(
            f"{path}: not a checkpoint of this version ({reason}); "
            "expected a file that python -m engine.training wrote, such as model.pt"
        ) from error


def save_model(network: CrowdNetwork, counting: dict[int, dict[str, float]], path: Path) -> None:
    """Write what export needs: weights, shape of the network, and counting rule per number of steps."""
    state = {
        "config": {"model": dataclasses.asdict(network.config)},
        "average": network.state_dict(),
        "counting": counting,
    }
    save_whole(state, path)
