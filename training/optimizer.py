"""Muon for the convolutions, AdamW for everything else."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from engine.errors import ConfigError


class MuonAdamW:
    """The optimiser of a network: its convolutions are stepped by Muon, its vectors and linear layers by AdamW.

    Muon (Jordan et al., 2024) makes the momentum of a weight matrix orthogonal before it steps by it, so that
    rare directions are learned as fast as common ones. A convolution's matrix has a row for each filter. Its steps
    are scaled to the size of AdamW's (Liu et al., 2025), so one learning rate serves both.
    """

    def __init__(self, network: nn.Module, learning_rate: float, weight_decay: float, muon: bool = True):
        """With ``muon``, convolutions must be laid out channels last; without, AdamW steps them too."""
        self._parameters = list(network.parameters())
        self._filters = [p for p in self._parameters if muon and p.ndim == 4]
        # torch's Muon takes matrices only. Views of the same memory, or view() refuses.
        self._matrices = [p.detach().permute(0, 2, 3, 1).view(len(p), -1) for p in self._filters]
        rest = [p for p in self._parameters if not (muon and p.ndim == 4)]
        groups = [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._optimizers: dict[str, torch.optim.Optimizer] = {"adamw": torch.optim.AdamW(groups, learning_rate)}
        if self._matrices:
            self._optimizers["muon"] = torch.optim.Muon(
                self._matrices, learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            )

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def step(self, learning_rate: float) -> None:
        """Step by the gradients that the network's parameters hold."""
        for matrix, filters in zip(self._matrices, self._filters, strict=True):
            matrix.grad = None if filters.grad is None else filters.grad.permute(0, 2, 3, 1).flatten(1)
        for optimizer in self._optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything that :meth:`load_state_dict` needs to go on as if nothing had happened."""
        return {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the state of another run of the same network.

        Raises:
            ConfigError: that run had another optimiser.
        """
        if state.keys() != self._optimizers.keys():
            raise ConfigError("the checkpoint's run had another optimiser: use that one, or --start from its weights")
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state[name])
