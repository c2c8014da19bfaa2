"""Criss-cross attention in PyTorch: the differentiable op and the layer around it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What :func:`criss_cross_attention` computes, in operators that PyTorch can differentiate."""
    height, width = q.shape[1:3]
    # Column pass on [B, W, H, ...]; the own pixel is left to the row pass, so that it counts once.
    to_columns = lambda x: x.transpose(1, 2)  # noqa: E731
    column = to_columns(q) @ to_columns(k).transpose(-1, -2)  # [B, W, H, H]
    own = torch.eye(height, dtype=torch.bool, device=q.device)
    column = column.masked_fill(own, float("-inf"))
    row = q @ k.transpose(-1, -2)  # [B, H, W, W]
    logits = torch.cat([to_columns(column), row], dim=-1)  # [B, H, W, H + W]
    weights = logits.float().softmax(dim=-1).to(v.dtype)
    from_column = to_columns(to_columns(weights[..., :height]) @ to_columns(v))
    return from_column + weights[..., height : height + width] @ v


@torch.library.custom_op("crowd::criss_cross_attention", mutates_args=())
def criss_cross_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of every pixel over its own row and column, under one softmax.

    Args:
        q: queries [B, H, W, D].
        k: keys [B, H, W, D].
        v: values [B, H, W, C].

    Returns:
        [B, H, W, C]: for each pixel, the mean of the values of the H + W - 1 pixels of its row
        and column (itself once), weighted by softmax(q . k).

    Source: CCNet (ICCV 2019), in NHWC layout. Logits are not scaled: the caller scales q.
    """
    return attend(q, k, v).contiguous()


@criss_cross_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return v.new_empty(v.shape)


def _keep_inputs(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
    # The weights are computed again: keeping [B, H, W, H + W] alive costs more than the two products.
    with torch.enable_grad():
        inputs = [x.detach().requires_grad_() for x in ctx.saved_tensors]
        return torch.autograd.grad(attend(*inputs), inputs, grad)


criss_cross_attention.register_autograd(_backward, setup_context=_keep_inputs)


@torch.library.custom_op("crowd::log_length", mutates_args=())
def log_length(x: Tensor) -> Tensor:
    """log(H + W - 1) of ``x`` [B, C, H, W]: a float32 scalar.

    An op of its own, so that an exported graph reads the size from the tensor at hand: traced
    arithmetic would reach back to the size of the image, across every cut of the graph.
    """
    height, width = x.shape[2:]
    return torch.log(torch.scalar_tensor(height + width - 1, dtype=torch.float32, device=x.device))


@log_length.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty((), dtype=torch.float32)


class CrissCrossAttention(nn.Module):
    """``x + gamma * attention(x)``, with gamma learned from 0 (CCNet).

    Logits are scaled by ``log(H + W - 1) / log(n_0) / sqrt(D)``: entropy then stays about the same
    when a row is far longer than those of the training crops.

    Shapes: [B, C, H, W] -> [B, C, H, W].
    """

    scale: Tensor
    is_query: Tensor

    def __init__(self, channels: int, dim: int, reference_length: int):
        super().__init__()
        self.dim = dim
        self.query_key_value = nn.Conv2d(channels, 2 * dim + channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))
        log_reference = torch.log(torch.tensor(float(reference_length)))
        self.register_buffer("scale", 1 / (log_reference * dim**0.5), persistent=False)
        is_query = torch.arange(2 * dim + channels) < dim
        self.register_buffer("is_query", is_query[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        packed = self.query_key_value(x)  # [B, 2 D + C, H, W]
        # The whole packed tensor is scaled, keys and values by 1: it then leaves an exported graph in one piece,
        # and where the size is known when compiling, the factors melt into the convolution.
        scale = self.scale * log_length(packed.detach())
        packed = packed * torch.where(self.is_query, scale, 1.0).to(packed.dtype)
        q, k, v = packed.permute(0, 2, 3, 1).split([self.dim, self.dim, x.shape[1]], dim=-1)
        attended = criss_cross_attention(q.contiguous(), k.contiguous(), v.contiguous())
        return x + self.gamma * attended.permute(0, 3, 1, 2)
