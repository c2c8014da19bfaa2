"""Counts pictures in ONNX Runtime, and measures what convolutions read meanwhile: the grids that int8 has for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx
import onnxruntime

from engine import _core
from engine.bundle.bundle import Bundle
from engine.config import FEATURE_STRIDE
from engine.counting.heads import HeadMaps, choose_rule, count_heads
from engine.diffusion.latent import head_maps
from engine.diffusion.sampler import Latents, denoise, initial_noise
from engine.errors import BundleError
from engine.export.agreement import Heads
from engine.export.quantized_onnx import LEVELS, UNSIGNED_LEVELS, Grid, convolutions, never_negative
from engine.image.tiles import to_input

Arrays = Mapping[str, np.ndarray]
# Called with a program's name and everything that its convolutions read in one run.
Observer = Callable[[str, Arrays], None]
# Shares of the largest magnitude that are tried as the range.
_SHARES = np.linspace(0.2, 1.0, 81)
_BINS = 2048
# Every third value is counted: the histogram is as good, and takes a third of the time.
_STRIDE = 3


class Magnitudes:
    """A histogram of absolute values whose range grows with what it sees."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, np.int64)
        self._top = 0.0
        self._largest = 0.0

    def add(self, values: np.ndarray) -> None:
        """Count float values of any shape; exact zeros are left out, as any range represents them."""
        sizes = np.abs(values).ravel()
        self._largest = max(self._largest, float(sizes.max(initial=0)))
        if self._largest == 0:
            return
        self._top = self._top or self._largest
        while self._top < self._largest:
            # Twice the range: pairs of bins become one.
            self._counts = np.concatenate([self._counts.reshape(-1, 2).sum(axis=1), np.zeros(_BINS // 2, np.int64)])
            self._top *= 2
        thinned = sizes[::_STRIDE]
        self._counts += np.histogram(thinned[thinned > 0], _BINS, (0, self._top))[0]

    def grid(self, is_unsigned: bool = False) -> Grid:
        """The one that loses the least squared error, by rounding and clipping to it together."""
        if self._largest == 0:
            return Grid(1.0, is_unsigned)
        levels = UNSIGNED_LEVELS if is_unsigned else LEVELS
        centres = (np.arange(_BINS) + 0.5) * (self._top / _BINS)

        def loss(limit: float) -> float:
            step = limit / levels
            rounded = np.minimum(np.rint(centres / step), levels) * step
            return float((self._counts * (centres - rounded) ** 2).sum())

        return Grid(min((float(share) * self._largest for share in _SHARES), key=loss), is_unsigned)


class GraphRunner:
    """Counts with the whole graphs of a bundle in ONNX Runtime, on the CPU.

    Args:
        bundle: whose steps and rule.
        sessions: of its programs, by name; as :func:`session` makes them.
        observe: see :data:`Observer`.
    """

    def __init__(
        self,
        bundle: Bundle,
        sessions: Mapping[str, onnxruntime.InferenceSession],
        observe: Observer | None = None,
    ):
        self._bundle, self._sessions, self._observe = bundle, sessions, observe

    def heads(self, image: np.ndarray) -> Heads:
        """Number of heads in a picture, uint8 [H, W, 3], with the bundle's own number of steps, and the heat map.

        Errors: BundleError if the network gives a value that is not finite.
        """
        model, steps = self._bundle.model, self._bundle.default_steps
        made = self._run("encoder", {"image": to_input(image, model)})
        shape = (1, model.latent_channels, *made["features"].shape[2:])
        latents = Latents(initial_noise(0, shape, 0).copy(), np.zeros(shape, np.float32), np.zeros(shape, np.float32))
        denoise(self, made["features"], latents, steps, model.map_scale)
        heatmap, spread = head_maps([latents.estimate], [latents.change], model)
        rate, cells = made["rate"][0, 0], FEATURE_STRIDE // model.map_stride
        maps = HeadMaps(heatmap, spread, rate, cells, float(rate.sum()), has_spread=False)
        counted = count_heads(maps, choose_rule(self._bundle.counting, steps), _core.find_peaks)
        return len(counted.points), heatmap

    def decode(self, features: np.ndarray, x_t: np.ndarray, t: float) -> np.ndarray:
        """One denoising step, as :func:`engine.diffusion.sampler.denoise` calls it."""
        return self._run("decoder", {"features": features, "x_t": x_t, "t": np.array([t], np.float32)})["x_0"]

    def ddim_update(
        self,
        x_t: np.ndarray,
        x_0: np.ndarray,
        estimate: np.ndarray,
        change: np.ndarray,
        coefficients: tuple[float, ...],
    ) -> None:
        """The kernel of that name."""
        _core.ddim_update(x_t, x_0, estimate, change, coefficients, 1)

    def _run(self, program: str, inputs: Arrays) -> Arrays:
        runtime = self._sessions[program]
        names = [x.name for x in runtime.get_outputs()]
        made = dict(zip(names, runtime.run(names, dict(inputs)), strict=True))
        for name, array in made.items():
            if not np.isfinite(array).all():
                raise BundleError(f"{self._bundle.path}: {name} of the {program} is not finite; train or export again")
        if self._observe is not None:
            self._observe(program, {**inputs, **made})
        return made


def calibrate(
    bundle: Bundle, graphs: Mapping[str, onnx.ModelProto], pictures: Iterable[np.ndarray]
) -> dict[str, dict[str, Grid]]:
    """Count pictures in float32 and measure what convolutions read, over all denoising steps.

    Args:
        bundle: to calibrate.
        graphs: its whole graphs, with their weights inside.
        pictures: uint8 [H, W, 3], at least one.

    Returns:
        For each program, the grid of every tensor that a convolution reads: see :meth:`Magnitudes.grid`.
    """
    seen = {name: {tensor: Magnitudes() for tensor in _read(graph)} for name, graph in graphs.items()}

    def observe(program: str, arrays: Arrays) -> None:
        for name, magnitudes in seen[program].items():
            magnitudes.add(arrays[name])

    _watch(bundle, graphs, pictures, observe)
    positive = {program: never_negative(graph) for program, graph in graphs.items()}
    return {
        program: {name: x.grid(name in positive[program]) for name, x in tensors.items()}
        for program, tensors in seen.items()
    }


def channel_means(
    bundle: Bundle,
    graphs: Mapping[str, onnx.ModelProto],
    pictures: Iterable[np.ndarray],
    grids: Mapping[str, Mapping[str, Grid]],
) -> dict[str, dict[str, np.ndarray]]:
    """Mean of every channel that a convolution reads, in float32 and rounded to int8; see :func:`calibrate`.

    Args:
        grids: of these tensors, by program.

    Returns:
        For each program, float64 [2, C] for every tensor: exact, and rounded.
    """
    sums = {name: {tensor: np.zeros(1) for tensor in _read(graph)} for name, graph in graphs.items()}
    counted = dict.fromkeys(graphs, 0)

    def observe(program: str, arrays: Arrays) -> None:
        counted[program] += 1
        for name in sums[program]:
            exact = arrays[name]
            pair = (exact, grids[program][name].round(exact))
            means = np.stack([x.mean(axis=(0, 2, 3), dtype=np.float64) for x in pair])
            sums[program][name] = sums[program][name] + means

    _watch(bundle, graphs, pictures, observe)
    return {program: {name: x / counted[program] for name, x in made.items()} for program, made in sums.items()}


def mean_outputs(kernels: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Mean outputs [O] of a convolution whose kernels sum to [O, I / groups], of mean inputs [I]."""
    outputs, inputs = kernels.shape
    groups = len(means) // inputs
    per_group = kernels.reshape(groups, outputs // groups, inputs)
    return np.einsum("goi,gi->go", per_group, means.reshape(groups, inputs)).ravel()


def _read(graph: onnx.ModelProto) -> list[str]:
    """What the convolutions of a graph read."""
    return sorted({tensor for tensor, _, _ in convolutions(graph).values()})


def _watch(
    bundle: Bundle, graphs: Mapping[str, onnx.ModelProto], pictures: Iterable[np.ndarray], observe: Observer
) -> None:
    sessions = {name: session(_showing(graph, _read(graph))) for name, graph in graphs.items()}
    runner = GraphRunner(bundle, sessions, observe)
    for image in pictures:
        runner.heads(image)


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """ONNX Runtime for a model with its weights inside, on the CPU."""
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def _showing(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """A copy of ``model`` whose outputs include ``tensors`` from inside it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    shown = {x.name for x in (*copy.graph.input, *copy.graph.output)}
    copy.graph.output.extend(x for x in model.graph.value_info if x.name in set(tensors) - shown)
    return copy
