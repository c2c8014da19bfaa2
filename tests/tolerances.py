"""Every tolerance of the test suite, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """Largest allowed ``|a - b|``: ``absolute + relative * |b|``, as in ``numpy.testing.assert_allclose``."""

    absolute: float
    relative: float


# Kernels in float32 against the float64 oracle.
KERNELS = {
    # A logit of size 30 is rounded to 2e-6, which moves its weight by as much; the values are of size 1 to 5.
    "criss_cross_attention": Tolerance(absolute=2e-5, relative=2e-5),
    # Two float32 roundings of numbers of size up to 4.
    "ddim_update": Tolerance(absolute=1e-6, relative=1e-6),
    # The offsets are computed in float64 and rounded once, in the oracle and the kernel alike.
    "find_peaks": Tolerance(absolute=0.0, relative=0.0),
    # Two float32 roundings of numbers of size up to 4.
    "preprocess": Tolerance(absolute=1e-6, relative=1e-6),
}

# Kernels in bfloat16 against the float64 oracle on the same bfloat16 inputs: a number is rounded by 2^-8 of its size at
# most.
KERNELS_BFLOAT16 = {
    # Weights that add up to 1, rounded before they meet values of size up to 5, and the result: rounded to nearest, so
    # by half of that each; the exponential adds 1e-4 of the result.
    "criss_cross_attention": Tolerance(absolute=1e-2, relative=3e-3),
}

# Two float64 formulations of one sum of some hundred terms.
FLOAT64 = Tolerance(absolute=1e-12, relative=1e-12)


@dataclass(frozen=True)
class ConformanceTolerance:
    """How far a backend may be from the PyTorch reference in float32.

    ``features``, ``step`` and ``heatmap``: relative root mean square of the encoder's output, of one decoder step and
    of the final map, which is nearly everywhere zero (a map that lies one cell beside is off by 0.5);
    ``rate``: absolute, in heads per 8x8 block (runtimes differ in how they compute softplus near zero);
    ``distance``: relative, of the signature from the training pictures;
    ``count``: relative, also of unmatched points.
    """

    features: float
    rate: float
    distance: float
    step: float
    heatmap: float
    count: float


CONFORMANCE = {
    # The same arithmetic in another order: some ten float32 ulps after some tens of layers.
    "float32": ConformanceTolerance(features=1e-4, rate=1e-5, distance=1e-4, step=1e-4, heatmap=1e-3, count=0.01),
    # float16 keeps 11 bits, an error of 5e-4 a layer.
    "float16": ConformanceTolerance(features=1e-2, rate=5e-3, distance=1e-2, step=1e-2, heatmap=2e-2, count=0.02),
    # bfloat16 keeps 8 bits, an error of 2e-3 per layer; the sixty of the encoder add up to 6 % (at worst 0.060, in
    # OpenVINO and in PyTorch alike), and the fewer of a decoder step to less.
    "bfloat16": ConformanceTolerance(features=7e-2, rate=2e-2, distance=5e-2, step=5e-2, heatmap=1e-1, count=0.05),
    # int8 has 256 levels for the range of a channel, an error of 1e-2 of a typical value a layer, 10 % in sixty
    # (the worst size: 0.102). One convolution of the decoder and the maps between segments stay in bfloat16.
    "int8": ConformanceTolerance(features=1.2e-1, rate=1e-1, distance=1e-1, step=5e-2, heatmap=2e-1, count=0.1),
}

# Triton kernels against the float64 oracle on the same inputs, by type of the half-precision arrays. A number is
# rounded to float16 by 2^-11 of its size at most, to bfloat16 by 2^-8.
GPU_KERNELS = {
    # Weights, rounded before they meet values of size up to 5, and the result: 1.5 and 1 such roundings.
    ("criss_cross_attention", "torch.float16"): Tolerance(absolute=2.5e-3, relative=5e-4),
    ("criss_cross_attention", "torch.bfloat16"): Tolerance(absolute=2e-2, relative=4e-3),
    # Float32 roundings of numbers of size up to 4, then one of the result; float16 is coarser below 6e-5.
    ("ddim_update", "torch.float16"): Tolerance(absolute=1e-6, relative=5e-4),
    ("ddim_update", "torch.bfloat16"): Tolerance(absolute=1e-6, relative=4e-3),
    ("ddim_update", "torch.float32"): Tolerance(absolute=1e-6, relative=1e-6),
    # Some float32 roundings of numbers below 1.
    ("head_maps", "torch.float32"): Tolerance(absolute=5e-7, relative=0.0),
    # Two float32 roundings of numbers of size up to 4, then one of the result.
    ("preprocess", "torch.float16"): Tolerance(absolute=1e-6, relative=5e-4),
    ("preprocess", "torch.bfloat16"): Tolerance(absolute=1e-6, relative=4e-3),
}
