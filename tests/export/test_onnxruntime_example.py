"""The example that counts with ONNX Runtime alone, on a bundle of other sizes than the shipped one's."""

from __future__ import annotations

import numpy as np
import pytest
from int8_bundle import copy_bundle
from onnxruntime_example import load_example
from PIL import Image

import engine
from engine.bundle.bundle import write_manifest


# For 2 steps there is no rule: that of 1 step is the nearest.
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_bundle_of_other_sizes_counts_as_in_the_engine(steps, bundle, pictures, tmp_path):
    example = load_example()
    folder = copy_bundle(bundle, tmp_path / "small")
    parts = {name: getattr(bundle, name) for name in ("name", "model", "counting", "programs")}
    write_manifest(folder, default_steps=steps, **parts)
    with engine.CrowdCounter(folder, device="cpu", backend="openvino", compute_type="float32") as counter:
        for picture in pictures:
            expected = counter.count(picture)
            found = example.count(folder, np.asarray(Image.open(picture)))
            assert len(found) == expected.count > 0
            np.testing.assert_allclose(found, expected.points, atol=0.1)
