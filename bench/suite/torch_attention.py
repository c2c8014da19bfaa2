"""Criss-cross attention in PyTorch, in three formulations that users have."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def prepare(formulation: str, array: np.ndarray, dtype: torch.dtype) -> Tensor:
    """[B, H, W, X] as the formulation takes it: CCNet's is [B, X, H, W]."""
    tensor = torch.from_numpy(np.ascontiguousarray(array)).to(dtype)
    return tensor.permute(0, 3, 1, 2).contiguous() if formulation == "ccnet" else tensor


def finish(formulation: str, out: Tensor) -> Tensor:
    """The result as [B, H, W, C]; a view."""
    return out.permute(0, 2, 3, 1) if formulation == "ccnet" else out


def ccnet(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """CCNet's module after its convolutions (ICCV 2019): two batched products, one softmax over H + W, two products.

    q, k [B, D, H, W], v [B, C, H, W] -> [B, C, H, W].
    """
    b, _, h, w = q.shape

    def columns(x: Tensor) -> Tensor:  # [B W, X, H]
        return x.permute(0, 3, 1, 2).reshape(b * w, -1, h)

    def rows(x: Tensor) -> Tensor:  # [B H, X, W]
        return x.permute(0, 2, 1, 3).reshape(b * h, -1, w)

    own = torch.diag(torch.full((h,), float("-inf"), dtype=q.dtype))
    vertical = torch.bmm(columns(q).transpose(1, 2), columns(k)) + own
    horizontal = torch.bmm(rows(q).transpose(1, 2), rows(k))
    energy = torch.cat([vertical.view(b, w, h, h).permute(0, 2, 1, 3), horizontal.view(b, h, w, w)], dim=3)
    weights = F.softmax(energy, dim=3)  # [B, H, W, H + W]
    vertical = weights[..., :h].permute(0, 2, 1, 3).reshape(b * w, h, h)
    horizontal = weights[..., h:].reshape(b * h, w, w)
    from_columns = torch.bmm(columns(v), vertical.transpose(1, 2)).view(b, w, -1, h).permute(0, 2, 3, 1)
    from_rows = torch.bmm(rows(v), horizontal.transpose(1, 2)).view(b, h, -1, w).permute(0, 2, 1, 3)
    return from_columns + from_rows


def bmm_and_merge(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Rows and columns apart, each with its own maximum and sum, merged without the tensor of all energies.

    q, k [B, H, W, D], v [B, H, W, C] -> [B, H, W, C].
    """
    own = torch.eye(q.shape[1], dtype=torch.bool)
    column = _half(*(x.transpose(1, 2) for x in (q, k, v)), masked=own)
    row_out, row_max, row_sum = _half(q, k, v)
    column_out, column_max, column_sum = (x.transpose(1, 2) for x in column)
    top = torch.maximum(row_max, column_max)
    row_weight, column_weight = torch.exp(row_max - top), torch.exp(column_max - top)
    total = row_sum * row_weight + column_sum * column_weight
    return (row_out * row_weight + column_out * column_weight) / total


def _half(q: Tensor, k: Tensor, v: Tensor, masked: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    energy = q @ k.transpose(-1, -2)  # [B, lines, n, n]
    if masked is not None:
        energy = energy.masked_fill(masked, float("-inf"))
    top = energy.amax(dim=-1, keepdim=True).clamp_min(torch.finfo(q.dtype).min)
    weights = torch.exp(energy - top)
    return weights @ v, top, weights.sum(dim=-1, keepdim=True)


def sdpa_rows_and_columns(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """PyTorch's fused attention on rows and on columns, merged by the logarithms of their sums.

    q, k [B, H, W, D], v [B, H, W, C] -> [B, H, W, C]. The fused kernel takes queries as wide as values, so these are
    padded with zeros; the public ``scaled_dot_product_attention`` does not return the sums, the operator below it does.
    """
    height, wide = q.shape[1], v.shape[3] - q.shape[3]
    q, k = F.pad(q, (0, wide)), F.pad(k, (0, wide))
    own = torch.diag(torch.full((height,), float("-inf"), dtype=q.dtype))
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    row, row_sum = attend(q, k, v, scale=1.0)
    column, column_sum = attend(*(x.transpose(1, 2) for x in (q, k, v)), attn_mask=own, scale=1.0)
    weight = torch.sigmoid(row_sum - column_sum.transpose(1, 2)).unsqueeze(-1)  # [B, H, W, 1]
    return row * weight + column.transpose(1, 2) * (1 - weight)
