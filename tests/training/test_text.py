"""Text for training pictures: there is some, it lies inside its square, and its seed alone decides."""

from __future__ import annotations

import numpy as np
import pytest

from engine.training.text import text_layer


@pytest.mark.parametrize("size", [64, 257])
def test_a_layer_depends_on_its_seed_alone_and_most_have_text(size: int) -> None:
    shares = []
    for seed in range(30):
        colour, opacity = text_layer(size, np.random.default_rng(seed))
        again = text_layer(size, np.random.default_rng(seed))
        assert colour.shape == (3, size, size)
        assert opacity.shape == (size, size)
        assert colour.dtype == opacity.dtype == np.float32
        assert min(colour.min(), opacity.min()) >= 0
        assert max(colour.max(), opacity.max()) <= 1
        np.testing.assert_array_equal(colour, again[0])
        np.testing.assert_array_equal(opacity, again[1])
        shares.append((opacity > 0).mean())
    # Some begin beyond the border; none covers everything.
    assert np.mean(np.array(shares) > 0) > 0.7
    assert max(shares) < 1
    assert len(set(shares)) > 15
