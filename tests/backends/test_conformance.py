"""Every backend against the PyTorch reference: per step, the final map, points and count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tolerances import CONFORMANCE

import engine
from engine.backends.base import Backend
from engine.backends.registry import create_backend, why_no_gpu
from engine.bundle.bundle import load_bundle
from engine.config import FEATURE_STRIDE, CounterConfig
from engine.counting.heads import distance
from engine.diffusion.sampler import Network, ddim_steps, initial_noise
from engine.image.load import load_image
from engine.image.tiles import to_input

pytest.importorskip("torch", reason="the reference backend needs PyTorch (the train extra)")

PICTURE = Path(__file__).parents[2] / "examples" / "pictures" / "images" / "pedestrians.jpg"
VARIANTS = [
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
    ("openvino", "int8"),
    ("torch", "bfloat16"),
    pytest.param(("tensorrt", "float16"), marks=pytest.mark.gpu),
    pytest.param(("tensorrt", "bfloat16"), marks=pytest.mark.gpu),
]
# What a machine may lack; the message of the error is the reason to skip.
MAY_LACK = ("no bfloat16 instructions", "no int8 dot products")


def _create(name: str, compute_type: str) -> Backend:
    bundle, config = load_bundle("default"), CounterConfig(backend=name, compute_type=compute_type)
    problem = why_no_gpu(bundle, config) if name == "tensorrt" else None
    if problem:
        pytest.skip(problem)
    try:
        return create_backend(bundle, config)
    except engine.EngineError as error:
        if any(text in str(error) for text in MAY_LACK):
            pytest.skip(str(error))
        raise


@pytest.fixture(scope="module")
def reference() -> Iterator[Network]:
    with closing(_create("torch", "float32")) as backend, backend.network() as network:
        yield network


@pytest.fixture(scope="module", params=VARIANTS, ids="-".join)
def variant(request) -> Iterator[tuple[Network, str]]:
    with closing(_create(*request.param)) as backend, backend.network() as network:
        yield network, request.param[1]


def _error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Root mean square of the difference over that of the reference."""
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


@pytest.mark.parametrize("size", [(32, 32), (32, 160), (224, 96), (288, 352)])
def test_features_rate_signature_and_every_step(reference, variant, size) -> None:
    network, compute_type = variant
    bundle, tolerance = load_bundle("default"), CONFORMANCE[compute_type]
    image = load_image(PICTURE)[-size[0] :, : size[1]]
    pixels = to_input(image, bundle.model)
    ours, theirs = (x.encode(x.upload(pixels)) for x in (network, reference))
    assert _error(network.download(ours[0]), reference.download(theirs[0])) < tolerance.features
    assert np.abs(network.download(ours[1]) - reference.download(theirs[1])).max() < tolerance.rate
    expected = distance(reference.download(theirs[2])[0])
    assert expected > 0
    assert distance(network.download(ours[2])[0]) == pytest.approx(expected, rel=tolerance.distance)
    shape = (1, bundle.model.latent_channels, size[0] // FEATURE_STRIDE, size[1] // FEATURE_STRIDE)
    # Both follow the reference's trajectory, so that each step's error is its own.
    x_t, estimate, change = (
        reference.upload(x) for x in (initial_noise(0, shape, 0), *np.zeros((2, *shape), np.float32))
    )
    for step in ddim_steps(3):
        mine = network.decode(ours[0], network.upload(reference.download(x_t)), step.t)
        x_0 = reference.decode(theirs[0], x_t, step.t)
        assert _error(network.download(mine), reference.download(x_0)) < tolerance.step
        coefficients = (step.alpha, step.sigma, step.alpha_next, step.sigma_next, bundle.model.map_scale, 0.5)
        reference.ddim_update(x_t, x_0, estimate, change, coefficients)


@pytest.mark.parametrize("names", VARIANTS, ids="-".join)
@pytest.mark.parametrize("steps", [1, 3])
def test_final_map_points_and_count(names, steps) -> None:
    name, compute_type = names
    _create(name, compute_type).close()
    tolerance = CONFORMANCE[compute_type]
    with engine.CrowdCounter(backend="torch", compute_type="float32") as counter:
        theirs = counter.count(PICTURE, steps=steps)
    with engine.CrowdCounter(backend=name, compute_type=compute_type) as counter:
        ours = counter.count(PICTURE, steps=steps)
    assert _error(ours.heatmap, theirs.heatmap) < tolerance.heatmap
    # Halves up: a share of half a person may move the count by one.
    allowed = int(tolerance.count * theirs.count + 0.5)
    assert abs(ours.count - theirs.count) <= allowed
    distances = np.linalg.norm(ours.points[:, None] - theirs.points[None], axis=2)
    matched = (distances.min(axis=0) < 2).sum()
    assert matched >= theirs.count - allowed
