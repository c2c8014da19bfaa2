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
}

# Two float64 formulations of one sum of some hundred terms.
FLOAT64 = Tolerance(absolute=1e-12, relative=1e-12)


@dataclass(frozen=True)
class ConformanceTolerance:
    """How far a backend may be from the PyTorch reference in float32.

    ``features`` and ``step``: relative root mean square of the encoder's output and of one decoder step;
    ``density``: absolute, in heads per 8x8 block (runtimes differ in how they compute softplus near zero);
    ``heatmap``: mean absolute difference of the final map, in [0, 1]; ``count``: relative, also of unmatched points.
    """

    features: float
    density: float
    step: float
    heatmap: float
    count: float


CONFORMANCE = {
    # The same arithmetic in another order: some ten float32 ulps after some tens of layers.
    "float32": ConformanceTolerance(features=1e-4, density=1e-5, step=1e-4, heatmap=1e-4, count=0.01),
    # bfloat16 keeps 8 bits, an error of 2e-3 per layer, which some tens of layers add up to a few per cent.
    "bfloat16": ConformanceTolerance(features=5e-2, density=2e-2, step=5e-2, heatmap=1e-2, count=0.05),
}
