"""Compares what a bundle computes, in every runtime at hand, with PyTorch: each step and the final map."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
import torch

from engine.backends.registry import create_backend
from engine.bundle.bundle import Bundle, load_bundle
from engine.bundle.manifest import MOST_STEPS
from engine.bundle.stages import PROGRAMS
from engine.config import FEATURE_STRIDE, CounterConfig, check_range
from engine.counting.heads import choose_rule
from engine.diffusion.sampler import Latents, denoise, initial_noise
from engine.image.tiles import to_input
from engine.kernels import reference
from engine.model.bundle_network import load_bundle_network


class Runner(Protocol):
    """What is compared; every :class:`engine.diffusion.sampler.Network` is one. Arrays are its own."""

    def upload(self, array: np.ndarray) -> Any:
        """A writable array of the runner."""

    def download(self, array: Any) -> np.ndarray:
        """The same on the host."""

    def encode(self, image: Any) -> tuple[Any, ...]:
        """Features, rate and signature."""

    def decode(self, features: Any, x_t: Any, t: float) -> Any:
        """Estimate x_0 of the clean latent."""

    def ddim_update(self, x_t: Any, x_0: Any, estimate: Any, change: Any, coefficients: tuple[float, ...]) -> None:
        """In place in ``x_t``, ``estimate`` and ``change``."""


@dataclass(frozen=True)
class Tolerance:
    """Largest accepted errors.

    Attributes:
        step: of features, rate, signature and x_0, as a share of the reference's largest value.
        final: the same of the final map, on the runner's own trajectory.
        peaks: difference in the number of peaks, as a share of the reference's.
    """

    step: float
    final: float
    peaks: float


# float32: sums in another order, and 3 steps that pass the difference on. Reduced types carry
# 8 (bfloat16) or 11 bits (float16), so single values are off by percents; peaks near the threshold flip.
TOLERANCES = {
    "float32": Tolerance(step=1e-4, final=1e-3, peaks=0.0),
    "float16": Tolerance(step=1e-2, final=5e-2, peaks=0.02),
    "bfloat16": Tolerance(step=5e-2, final=2e-1, peaks=0.05),
    "int8": Tolerance(step=2e-1, final=5e-1, peaks=0.1),
}
# What a picture's largest value is taken for at least: of next to nothing, every error would be a large share.
# Heads in a block of 8x8 pixels, about the mean of crowd pictures; a signature's spread; one head in all.
_LEAST = {"rate": 0.05, "signature": 1.0, "peaks": 1.0}
# What the encoder gives.
_ENCODED = PROGRAMS["encoder"][1]


@dataclass(frozen=True)
class Row:
    """One comparison: largest absolute error, the same relative to PyTorch's largest value, and the limit."""

    runner: str
    quantity: str
    absolute: float
    relative: float
    limit: float

    @property
    def passed(self) -> bool:
        """False also for a NaN."""
        return bool(self.relative <= self.limit)


@dataclass(frozen=True)
class Report:
    """All comparisons of one bundle; ``str()`` is a table."""

    bundle: str
    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """Whether every comparison is within its limit."""
        return all(row.passed for row in self.rows)

    def __str__(self) -> str:
        head = f"{'runner':<22}{'quantity':<14}{'max error':>12}{'relative':>12}{'limit':>10}"
        lines = [
            f"{row.runner:<22}{row.quantity:<14}{row.absolute:>12.3g}{row.relative:>12.3g}{row.limit:>10.3g}"
            + ("" if row.passed else "  FAILED")
            for row in self.rows
        ]
        verdict = "agrees with PyTorch" if self.passed else "does NOT agree with PyTorch"
        return "\n".join([head, *lines, f"{self.bundle}: {verdict}"])


def verify_bundle(
    path: str | Path,
    *,
    backends: tuple[tuple[str, str], ...] = (("openvino", "float32"),),
    picture: np.ndarray | None = None,
    steps: int | None = None,
) -> Report:
    """Run a bundle in PyTorch, as whole graphs in ONNX Runtime, and in ``backends``, and compare.

    Args:
        path: bundle folder or "default".
        backends: names with compute types, such as ``("openvino", "bfloat16")``.
        picture: uint8 [H, W, 3]; None is a synthetic one.
        steps: denoising steps; None is the bundle's default.

    Errors: BundleError for a bad bundle, BackendError for a backend that is not here, ConfigError for steps that cannot
    be. Disagreement is no error: see ``Report.passed``.
    """
    check_range("steps", steps, 1, MOST_STEPS, optional=True)
    bundle = load_bundle(path)
    image = to_input(_synthetic_picture() if picture is None else picture, bundle.model)
    comparison = _Comparison(bundle, image, steps or bundle.default_steps)
    rows = comparison.rows("onnxruntime float32", OnnxRunner(bundle), TOLERANCES["float32"])
    for name, compute_type in backends:
        config = CounterConfig(model=bundle.path, backend=name, compute_type=compute_type)
        backend = create_backend(bundle, config)
        with closing(backend), backend.network() as network:
            rows += comparison.rows(f"{name} {backend.compute_type}", network, TOLERANCES[backend.compute_type])
    return Report(bundle.name, tuple(rows))


class _HostRunner:
    """Arrays are NumPy's, and the update is the oracle's."""

    def upload(self, array: np.ndarray) -> np.ndarray:
        return np.array(array, np.float32)

    def download(self, array: np.ndarray) -> np.ndarray:
        return array

    def ddim_update(
        self,
        x_t: np.ndarray,
        x_0: np.ndarray,
        estimate: np.ndarray,
        change: np.ndarray,
        coefficients: tuple[float, ...],
    ) -> None:
        x_t[:], estimate[:], change[:] = reference.ddim_update(x_t, x_0, estimate, change, coefficients)


class TorchRunner(_HostRunner):
    """The network in PyTorch, float32, with the bundle's weights."""

    def __init__(self, bundle: Bundle):
        self.network = load_bundle_network(bundle)

    @torch.inference_mode()
    def encode(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(made.numpy() for made in self.network.encoder(torch.from_numpy(image)))

    @torch.inference_mode()
    def decode(self, features: np.ndarray, x_t: np.ndarray, t: float) -> np.ndarray:
        x_0: torch.Tensor = self.network.decoder(
            torch.from_numpy(features), torch.from_numpy(x_t), torch.full((len(x_t),), t)
        )
        return x_0.numpy()


class OnnxRunner(_HostRunner):
    """The whole graphs in ONNX Runtime, the attention by its function body."""

    def __init__(self, bundle: Bundle):
        self._programs = {
            name: onnxruntime.InferenceSession(str(bundle.path / program.graph), providers=["CPUExecutionProvider"])
            for name, program in bundle.programs.items()
        }

    def encode(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(self._programs["encoder"].run(list(_ENCODED), {"image": image}))

    def decode(self, features: np.ndarray, x_t: np.ndarray, t: float) -> np.ndarray:
        inputs = {"features": features, "x_t": x_t, "t": np.full(len(x_t), t, np.float32)}
        x_0: np.ndarray = self._programs["decoder"].run(["x_0"], inputs)[0]
        return x_0


class _Recorder:
    """A runner that keeps what went into and came out of every decode."""

    def __init__(self, runner: TorchRunner):
        self._runner = runner
        self.calls: list[tuple[np.ndarray, float, np.ndarray]] = []
        self.ddim_update = runner.ddim_update

    def decode(self, features: np.ndarray, x_t: np.ndarray, t: float) -> np.ndarray:
        x_0 = self._runner.decode(features, x_t, t)
        self.calls.append((x_t.copy(), t, x_0.copy()))
        return x_0


class _Comparison:
    """The reference's values for one picture, and the rows of any runner against them."""

    def __init__(self, bundle: Bundle, image: np.ndarray, steps: int):
        self._bundle, self._image, self._steps = bundle, image, steps
        height, width = (size // FEATURE_STRIDE for size in image.shape[2:])
        self._noise = initial_noise(0, (1, bundle.model.latent_channels, height, width), 0)
        runner = TorchRunner(bundle)
        self._unfold = runner.network.unfold
        self._encoded = runner.encode(image)
        self._recorder = _Recorder(runner)
        self._final = self._run(self._recorder, runner, self._encoded[0])

    def _run(self, denoiser: Any, runner: Runner, features: Any) -> np.ndarray:
        """Head map [h, w] in [0, 1] at the end of the runner's own trajectory."""
        empty = np.zeros_like(self._noise)
        latents = Latents(*(runner.upload(x) for x in (self._noise, empty, empty)))
        denoise(denoiser, features, latents, self._steps, self._bundle.model.map_scale)
        latent = torch.from_numpy(np.array(runner.download(latents.estimate), np.float32))
        heatmap: np.ndarray = (self._unfold(latent)[0, 0].numpy() / self._bundle.model.map_scale + 1) / 2
        return heatmap

    def rows(self, name: str, runner: Runner, tolerance: Tolerance) -> list[Row]:
        """Every decode starts from the reference's values, so that a step's error is its own."""
        encoded = runner.encode(runner.upload(self._image))
        pairs = [
            (quantity, runner.download(ours).copy(), theirs)
            for quantity, ours, theirs in zip(_ENCODED, encoded, self._encoded, strict=True)
        ]
        final = self._run(runner, runner, encoded[0])
        for number, (x_t, t, x_0) in enumerate(self._recorder.calls, 1):
            ours = runner.decode(runner.upload(self._encoded[0]), runner.upload(x_t), t)
            pairs.append((f"x_0, step {number}", runner.download(ours).copy(), x_0))
        rows = [_compare(name, quantity, ours, theirs, tolerance.step) for quantity, ours, theirs in pairs]
        rows.append(_compare(name, "final map", final, self._final, tolerance.final))
        counts = [np.array([len(self._peaks(heatmap))]) for heatmap in (final, self._final)]
        return [*rows, _compare(name, "peaks", counts[0], counts[1], tolerance.peaks)]

    def _peaks(self, heatmap: np.ndarray) -> np.ndarray:
        return reference.find_peaks(heatmap, choose_rule(self._bundle.counting, self._steps).low)[0]


def _compare(runner: str, quantity: str, ours: np.ndarray, theirs: np.ndarray, limit: float) -> Row:
    absolute = float(np.abs(ours - theirs).max())
    largest = max(float(np.abs(theirs).max()), _LEAST.get(quantity, 0.0))
    return Row(runner, quantity, absolute, absolute / largest if absolute else 0.0, limit)


def _synthetic_picture() -> np.ndarray:
    # Blobs of a few sizes; not square, and no multiple of the padding.
    rng = np.random.default_rng(0)
    picture = sum(np.kron(rng.integers(0, 64, (224 // n, 320 // n, 3)), np.ones((n, n, 1))) for n in (4, 8, 16, 32))
    return np.asarray(picture)[:200, :300].astype(np.uint8)
