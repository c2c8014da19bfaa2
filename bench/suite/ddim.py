"""The DDIM update, ours and as a user would otherwise write it, with the change that the uncertainty map needs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from engine import _core
from engine.cli.timing import Timing
from engine.diffusion.sampler import ddim_steps
from engine.kernels import reference
from suite.checks import check_close
from suite.gpu import gpu_ddim
from suite.groups import Group, Way

LABELS = (
    "engine float32",
    "diffusers' DDIMScheduler, PyTorch float32",
    "formula, PyTorch float32",
    "formula, NumPy float32",
    "engine float16 on cuda",
)
_LIMIT = 0.25
# Each of the three arrays that change is read and written, x_0 is read.
_PASSES = 7

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def ddim_group(shape: tuple[int, ...]) -> Group:
    """All of :data:`LABELS` on latents of ``shape``, [B, L, h, w]."""
    rng = np.random.default_rng(0)
    x_t, x_0, estimate, change = (scale * rng.standard_normal(shape).astype(np.float32) for scale in (1, 0.2, 0.1, 0.1))
    # Values that half types hold exactly, so that all compute the same.
    x_t = x_t.astype(np.float16).astype(np.float32)
    arrays = x_t, x_0, np.clip(estimate, -_LIMIT, _LIMIT), np.abs(change)
    # The second step of three: nothing is 0 or 1.
    step = ddim_steps(3)[1]
    coefficients = (step.alpha, step.sigma, step.alpha_next, step.sigma_next, _LIMIT, 1 / (4 * _LIMIT))
    expected = np.stack(reference.ddim_update(*arrays, coefficients))
    nbytes = _PASSES * x_t.nbytes

    def check(label: str, outputs: Any) -> None:
        values = np.stack([np.asarray(x) for x in outputs])
        check_close("ddim_update", label, values, expected)

    def figures(label: str, timing: Timing) -> dict[str, Any]:
        return {"gbps": nbytes / timing.percentile(50) / 1e6}

    ways = {label: functools.partial(_WAYS[label], arrays, coefficients) for label in LABELS}
    case = "x".join(map(str, shape))
    settings = {"batch": shape[0], "height": shape[2], "width": shape[3]}
    return Group("ddim_update", case, ways, check, settings, figures)


def _engine(arrays: Arrays, coefficients: tuple[float, ...]) -> Way:
    x_t, x_0, estimate, change = (x.copy() for x in arrays)

    def call() -> Any:
        _core.ddim_update(x_t, x_0, estimate, change, coefficients)
        return x_t, estimate, change

    return Way(call)


def _diffusers(arrays: Arrays, coefficients: tuple[float, ...]) -> Way:
    import torch
    from diffusers import DDIMScheduler

    alpha, _, alpha_next, _, limit, weight = coefficients
    scheduler = DDIMScheduler(
        num_train_timesteps=2, prediction_type="sample", clip_sample=True, clip_sample_range=limit
    )
    scheduler.set_timesteps(2)
    # One step, from time 1 to time 0. Its own float32 would lose digits in 1 - alpha^2.
    scheduler.alphas_cumprod = torch.tensor([alpha_next**2, alpha**2], dtype=torch.float64)
    x_t, x_0, estimate, change = (torch.from_numpy(x.copy()) for x in arrays)

    def call() -> Any:
        nonlocal x_t, estimate, change
        with torch.inference_mode():
            # Without the flag the noise would be that of the map before it was clipped.
            x_t, new = scheduler.step(x_0, 1, x_t, use_clipped_model_output=True, return_dict=False)
            change = change + weight * (new - estimate).abs()
            estimate = new
        return x_t, estimate, change

    return Way(call)


def _torch(arrays: Arrays, coefficients: tuple[float, ...]) -> Way:
    import torch

    alpha, sigma, alpha_next, sigma_next, limit, weight = coefficients
    x_t, x_0, estimate, change = (torch.from_numpy(x.copy()) for x in arrays)

    def call() -> Any:
        nonlocal x_t, estimate, change
        with torch.inference_mode():
            new = x_0.clamp(-limit, limit)
            x_t = alpha_next * new + sigma_next * ((x_t - alpha * new) / max(sigma, 1e-8))
            change = change + weight * (new - estimate).abs()
            estimate = new
        return x_t, estimate, change

    return Way(call)


def _numpy(arrays: Arrays, coefficients: tuple[float, ...]) -> Way:
    alpha, sigma, alpha_next, sigma_next, limit, weight = (np.float32(x) for x in coefficients)
    x_t, x_0, estimate, change = arrays

    def call() -> Any:
        nonlocal x_t, estimate, change
        new = np.clip(x_0, -limit, limit)
        x_t = alpha_next * new + sigma_next * ((x_t - alpha * new) / max(sigma, np.float32(1e-8)))
        change = change + weight * np.abs(new - estimate)
        estimate = new
        return x_t, estimate, change

    return Way(call)


_WAYS: dict[str, Callable[..., Way]] = {
    "engine float32": _engine,
    "diffusers' DDIMScheduler, PyTorch float32": _diffusers,
    "formula, PyTorch float32": _torch,
    "formula, NumPy float32": _numpy,
    "engine float16 on cuda": functools.partial(gpu_ddim, "float16"),
}
