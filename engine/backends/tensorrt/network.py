"""Encoder and decoder at one picture size: TensorRT segments with compiled kernels between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.backends.cuda.arrays import DeviceArray, DeviceMemory
from engine.backends.cuda.context import close_all
from engine.backends.cuda.kernels import Kernels
from engine.backends.cuda.memory import DeviceBuffer
from engine.backends.cuda.streams import Stream
from engine.backends.tensorrt.engines import EngineStore
from engine.backends.tensorrt.library import ShapeRange
from engine.backends.tensorrt.runner import SegmentRunner, Workspace
from engine.bundle.bundle import Bundle, SegmentStage
from engine.bundle.program import Program, Segment


@dataclass(frozen=True)
class Runtime:
    """What all networks of a backend share.

    Attributes:
        bundle: the model.
        compute_type: "float16" or "bfloat16".
        stream: that all work is queued in, by one thread at a time.
        kernels: on that stream.
        engines: of the bundle's segments.
    """

    bundle: Bundle
    compute_type: str
    stream: Stream
    kernels: Kernels
    engines: EngineStore


class RecordableNetwork:
    """Both programs for pictures of one padded size, with execution contexts and memory of their own.

    It is the sampler's :class:`engine.diffusion.sampler.Denoiser`. The first call of each program allocates; later
    ones with the same numbers only queue work, and can be recorded.

    Args:
        runtime: of the backend.
        height, width: padded, in pixels.

    Attributes:
        image: half [1, 3, H, W], what :meth:`encode` reads.
    """

    def __init__(self, runtime: Runtime, height: int, width: int):
        self._runtime = runtime
        self._shapes = ShapeRange.holding(1, height, width)
        self._memory = DeviceMemory(runtime.stream)
        self._workspace = Workspace(self._scratch)
        self._runners: list[SegmentRunner] = []
        self._constants: dict[tuple[float, ...], DeviceArray] = {}
        attention = {"criss_cross_attention": _Attention(runtime.kernels, self._memory)}
        programs = runtime.bundle.programs
        self._encoder = Program(programs["encoder"], self._runner, attention)
        self._decoder = Program(programs["decoder"], self._runner, attention)
        self.image = self._memory.new((1, 3, height, width), runtime.compute_type)

    def encode(self) -> tuple[DeviceArray, ...]:
        """Of :attr:`image` features, half [1, F, H/8, W/8], rate, float32 [1, 1, H/8, W/8], and signature [1, S]."""
        return self._encoder(self.image)

    def decode(self, features: DeviceArray, x_t: DeviceArray, t: float) -> DeviceArray:
        """Estimate of the clean latent, float32, valid until the next call."""
        (x_0,) = self._decoder(features, x_t, self._constant(t))
        return x_0

    def ddim_update(
        self,
        x_t: DeviceArray,
        x_0: DeviceArray,
        estimate: DeviceArray,
        change: DeviceArray,
        coefficients: tuple[float, ...],
    ) -> None:
        """One DDIM update, in place in ``x_t``, ``estimate`` and ``change``."""
        self._runtime.kernels.ddim_update(x_t, x_0, estimate, change, self._constant(*coefficients))

    def check_capturable(self) -> None:
        """Refuse if a segment could not be recorded; to be called once all of them ran."""
        for runner in self._runners:
            runner.check_capturable()

    def close(self) -> None:
        """Free everything, once the work that uses it is done. Closing twice is harmless."""
        closers = [*(runner.close for runner in self._runners), self._workspace.close, self._memory.close]
        close_all(closers)

    def _runner(self, stage: SegmentStage) -> Segment:
        engine = self._runtime.engines.engine(stage, self._shapes)
        runner = SegmentRunner(engine, self._runtime.stream, self._workspace, self._memory.new)
        self._runners.append(runner)
        return runner

    def _scratch(self, nbytes: int) -> DeviceBuffer:
        return DeviceBuffer(self._runtime.stream.context, nbytes, self._runtime.stream)

    def _constant(self, *numbers: float) -> DeviceArray:
        """Float32 numbers in device memory, uploaded once: a recorded graph reads them there at every replay."""
        if numbers not in self._constants:
            self._constants[numbers] = self._memory.upload(np.array(numbers, np.float32), "float32")
        return self._constants[numbers]


class _Attention:
    """The kernel as a stage of a program; for each of its places one output, that of the first call.

    What the arrays' shapes must have in common, the program has checked.
    """

    def __init__(self, kernels: Kernels, memory: DeviceMemory):
        self._kernels, self._memory = kernels, memory
        # By the addresses and shapes of q, k and v: a place of the program is known by all of them together.
        self._outputs: dict[tuple[tuple[int, tuple[int, ...]], ...], DeviceArray] = {}
        # Shared by all places of one shape, as they run one after the other.
        self._scratch: dict[tuple[int, ...], tuple[DeviceArray, DeviceArray]] = {}

    def __call__(self, arrays: Sequence[DeviceArray]) -> list[DeviceArray]:
        q, k, v = arrays
        place = tuple((x.pointer, x.shape) for x in arrays)
        if place not in self._outputs:
            self._outputs[place] = self._memory.new(v.shape, v.dtype)
        if v.shape not in self._scratch:
            row_acc, row_lse = (self._memory.new(shape, "float32") for shape in (v.shape, v.shape[:3]))
            self._scratch[v.shape] = row_acc, row_lse
        out = self._outputs[place]
        self._kernels.criss_cross_attention(q, k, v, *self._scratch[v.shape], out)
        return [out]
