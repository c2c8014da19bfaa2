"""Pictures of several tiles are calibrated and validated on as they are counted, and take no more memory."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from PIL import Image
from small_run import MODEL

from engine.dataset.samples import Sample
from engine.diffusion.head_map import head_map
from engine.image.tiles import plan_tiles
from engine.model.network import CrowdNetwork
from engine.training import calibrate, validate

SIZE = 150, 230
POINTS = np.array([[5, 5], [97, 70], [229, 149], [100, 149]], np.float32)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = CrowdNetwork(MODEL).eval()
    torch.nn.init.normal_(network.decoder.out.weight, std=0.5)
    return network


@pytest.fixture
def sample(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "large.png")
    return Sample(tmp_path / "large.png", POINTS, "a")


@pytest.fixture(params=[True, False], ids=["tiles", "whole"])
def tiles(request, monkeypatch):
    """The picture's tiles, of 64 pixels and a halo of 32 around them; or the whole picture."""
    plan = functools.partial(plan_tiles, max_pixels=0, side=128, halo=32) if request.param else plan_tiles
    for module in (calibrate, validate):
        monkeypatch.setattr(module, "plan_tiles", plan)
    return plan(*SIZE)


def outputs(network, sample, tiles):
    """Each tile with its rate and its mean features, by the network itself."""
    image = np.asarray(Image.open(sample.image))
    with torch.inference_mode():
        for tile in tiles:
            part = calibrate.pixels(image[tile.top : tile.bottom, tile.left : tile.right], network)
            yield tile, network.encoder(part)[1][0, 0].numpy(), network.encoder.pool(part)[0].numpy()


def test_readings_are_those_of_the_tiles(network, sample, tiles):
    (reading,) = calibrate.read_pictures(network, [sample], [1])[1]
    people, features = 0.0, 0.0
    for tile, rate, pooled in outputs(network, sample, tiles):
        rows = slice((tile.core_top - tile.top) // 8, -(-(tile.core_bottom - tile.top) // 8))
        columns = slice((tile.core_left - tile.left) // 8, -(-(tile.core_right - tile.left) // 8))
        people += rate[rows, columns].sum()
        area = (tile.core_bottom - tile.core_top) * (tile.core_right - tile.core_left)
        features = features + pooled * area / np.prod(SIZE)
    assert reading.expected == pytest.approx(people, rel=1e-5)
    assert len(reading.scores) > 0
    found = calibrate.pool(network, np.asarray(Image.open(sample.image)))
    np.testing.assert_allclose(found, features, rtol=1e-5)


def test_scores_are_those_of_the_whole_picture(network, sample, tiles, monkeypatch):
    """Every cell and every head of it once, those at borders of tiles included."""
    monkeypatch.setattr(validate, "mixed_precision", lambda _: torch.autocast("cpu", enabled=False))
    # An empty map leaves only the heads.
    torch.nn.init.zeros_(network.decoder.out.weight)
    torch.nn.init.zeros_(network.decoder.out.bias)
    sizes = []
    hook = network.encoder.register_forward_pre_hook(lambda _, x: sizes.append(x[0].shape[2:].numel()))
    scores = validate.validate(network, MODEL, [sample], torch.device("cpu"))
    hook.remove()
    heads = head_map(POINTS, 160 // 2, 256 // 2, 2)
    assert scores["map"] == pytest.approx(float(((1 + 9 * heads) * heads**2).mean()), rel=1e-4)
    people = 0.0
    for tile, rate, _ in outputs(network, sample, tiles):
        # The padding is part of the whole picture, and so of the tiles at its border.
        bottom = (tile.core_bottom - tile.top) // 8 if tile.core_bottom < SIZE[0] else None
        right = (tile.core_right - tile.left) // 8 if tile.core_right < SIZE[1] else None
        people += rate[(tile.core_top - tile.top) // 8 : bottom, (tile.core_left - tile.left) // 8 : right].sum()
    assert scores["ratio/a"] == pytest.approx(people / len(POINTS), rel=1e-4)
    assert max(sizes) == (96 * 128 if len(tiles) > 1 else 160 * 256)
