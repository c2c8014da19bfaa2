"""Muon for the convolutions, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import ConfigError
from engine.model.precision import has_bfloat16

# Coefficients of the quintic iteration of Jordan et al. (2024), which makes singular values nearly 1 in five rounds.
_QUINTIC, _ROUNDS = (3.4445, -4.7750, 2.0315), 5


class MuonAdamW:
    """The optimiser of a network: its convolutions are stepped by Muon, its vectors and linear layers by AdamW.

    Muon (Jordan et al., 2024) makes the momentum of a weight matrix orthogonal before it steps by it, so that
    rare directions are learned as fast as common ones. A convolution's matrix has a row for each filter. Its steps
    are scaled to the size of AdamW's (Liu et al., 2025), so one learning rate serves both.
    """

    def __init__(
        self,
        network: nn.Module,
        learning_rate: float,
        weight_decay: float,
        muon: bool = True,
        slow: Collection[nn.Parameter] = (),
        slow_factor: float = 1.0,
    ):
        """With ``muon``, convolutions must be laid out channels last; without, AdamW steps them too.

        ``slow`` parameters, such as those that were trained before, are stepped by AdamW at ``slow_factor`` times the
        learning rate.
        """
        kept = {id(p) for p in slow}
        self._parameters = list(network.parameters())
        self._filters = [p for p in self._parameters if muon and p.ndim == 4 and id(p) not in kept]
        # torch's Muon takes matrices only. Views of the same memory, or view() refuses.
        self._matrices = [p.detach().permute(0, 2, 3, 1).view(len(p), -1) for p in self._filters]
        rest = [p for p in self._parameters if id(p) not in kept and not (muon and p.ndim == 4)]
        groups = [
            {
                "params": [p for p in members if (p.ndim > 1) == decays],
                "weight_decay": weight_decay * decays,
                "factor": x,
            }
            for members, x in ((rest, 1.0), (list(slow), slow_factor))
            for decays in (True, False)
            if members
        ]
        self._optimizers: dict[str, torch.optim.Optimizer] = {"adamw": torch.optim.AdamW(groups, learning_rate)}
        if self._matrices:
            reduced = self._matrices[0].device.type != "cpu" or has_bfloat16()
            self._optimizers["muon"] = (torch.optim.Muon if reduced else Float32Muon)(
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
                group["lr"] = learning_rate * group.get("factor", 1.0)
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything that :meth:`load_state_dict` needs to go on as if nothing had happened."""
        return {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the state of another run of the same network, but not its settings, such as the weight decay.

        Raises:
            ConfigError: that run had another optimiser.
        """
        if state.keys() != self._optimizers.keys():
            raise ConfigError("the checkpoint's run had another optimiser: use that one, or --start from its weights")
        for name, optimizer in self._optimizers.items():
            # The state has the settings of its run as well; those that this one was made with hold.
            asked = [{key: x for key, x in group.items() if key != "params"} for group in optimizer.param_groups]
            optimizer.load_state_dict(state[name])
            for group, settings in zip(optimizer.param_groups, asked, strict=True):
                group.update(settings)


class Float32Muon(torch.optim.Muon):
    """PyTorch's Muon, whose products of matrices are in float32 instead of bfloat16; with "match_rms_adamw" alone.

    A CPU that has no instructions for bfloat16 emulates them: PyTorch's takes four times as long there as the rest of
    the training step.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Step by the gradients that the matrices hold; there must be no ``closure``."""
        assert closure is None
        for group in self.param_groups:
            assert group["nesterov"]
            assert group["adjust_lr_fn"] == "match_rms_adamw"
            for matrix in (x for x in group["params"] if x.grad is not None):
                state = self.state[matrix]
                momentum = state.setdefault("momentum_buffer", torch.zeros_like(matrix.grad))
                momentum.lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonal(matrix.grad.lerp(momentum, group["momentum"]))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-0.2 * group["lr"] * max(matrix.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """``matrix`` [M, N] with singular values of about 1 (0.7 to 1.2) in place of its own, by Newton-Schulz iteration.

    >>> orthogonal(torch.tensor([[0.0, 2.0], [-3.0, 0.0]])).sign()
    tensor([[ 0.,  1.],
            [-1.,  0.]])
    """
    a, b, c = _QUINTIC
    # The smaller of the two products with the own transpose.
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(_ROUNDS):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide if len(matrix) <= matrix.shape[1] else wide.T
