"""Crops: a head stays on its pixel through zoom, position and flip; nothing is invented around a small picture."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from engine.config import ModelConfig
from engine.training.augment import AugmentConfig, draw_crop, random_crop

MODEL = ModelConfig(crop_size=64)
PLAIN = AugmentConfig(
    scale=(1, 1), aspect=(1, 1), native=0, padding=0,
    contrast=(1, 1), gamma=(1, 1), channel_gain=(1, 1), brightness=0, grey=0,
)  # fmt: skip
NOBODY = np.zeros((0, 2), np.float32)


def with_marks(height: int, width: int, points: np.ndarray) -> np.ndarray:
    """A dark picture with a bright 9x9 block around the pixel of each point."""
    image = np.full((height, width, 3), 30, np.uint8)
    for x, y in points.astype(int):
        image[max(y - 4, 0) : y + 5, max(x - 4, 0) : x + 5] = 250
    return image


@pytest.mark.parametrize("size", [(48, 200), (64, 64), (20, 20), (131, 97), (1, 300)])
@pytest.mark.parametrize("crop", [32, 64])
def test_shapes(size, crop):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    points = (rng.random((50, 2)) * size[::-1]).astype(np.float32)
    for _ in range(10):
        pixels, heads, counts = random_crop(image, points, ModelConfig(crop_size=crop), AugmentConfig(), rng)
        assert (pixels.shape, pixels.dtype) == ((3, crop, crop), np.float32)
        assert (heads.shape, heads.dtype) == ((crop // 2, crop // 2), np.float32)
        assert (counts.shape, counts.dtype) == ((crop // 16, crop // 16), np.float32)
        assert np.isfinite(pixels).all()
        assert (heads == 1).any() == (counts.sum() > 0)
        assert pixels.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("scale", [(1, 1), (0.6, 0.6), (1.7, 1.7), (0.6, 1.7)])
@pytest.mark.parametrize("size", [(150, 110), (40, 90)])
def test_a_head_stays_on_its_pixel(scale, size):
    # Darkened, the block could be no brighter than the padding.
    # And where the crop is padded inside the picture, blocks are cut off.
    config = AugmentConfig(scale=scale, brightness=0, gamma=(1, 1), padding=0)
    rng = np.random.default_rng(1)
    seen = 0
    for _ in range(1000):
        point = np.float32([rng.uniform(8, size[1] - 8), rng.uniform(8, size[0] - 8)])[None]
        image = with_marks(*size, point)
        pixels, heads, counts = random_crop(image, point, MODEL, config, rng)
        if counts.sum() == 0:
            continue
        row, column = np.unravel_index(heads.argmax(), heads.shape)
        if not (10 < 2 * row < 54 and 10 < 2 * column < 54):
            continue
        # Centre of the block and of the cell: half a cell, half a source pixel and the crop's rounding apart at most.
        centre = np.argwhere(pixels[0] > pixels[0].max() / 2).mean(axis=0) + 0.5
        assert np.abs(centre - [2 * row + 1, 2 * column + 1]).max() < 1 + 0.5 * scale[1] + 0.75
        seen += 1
    assert seen > 20


@pytest.mark.parametrize(("overhang", "least", "most"), [(0.0, 0.0, 0.2), (0.75, 0.6, 1.0)])
def test_with_an_overhang_the_border_is_seen_as_often_as_the_middle(overhang, least, most):
    """Far crowds touch the upper border, and without one a crop of 64 out of 192 rows seldom starts there."""
    config, rng = dataclasses.replace(PLAIN, overhang=overhang), np.random.default_rng(2)
    # Every row has its own grey.
    rows = np.broadcast_to(np.arange(192, dtype=np.uint8)[:, None, None], (192, 64, 3))
    seen = np.zeros(192)
    for _ in range(2000):
        pixels, _, _ = random_crop(rows, NOBODY, MODEL, config, rng)
        seen[np.round((pixels[0, :, 32] * MODEL.pixel_std + MODEL.pixel_mean) * 255).astype(int)] += 1
    border, middle = seen[[*range(16), *range(176, 192)]].mean(), seen[80:112].mean()
    assert least < border / middle < most


@pytest.mark.parametrize("head", [(0, 0), (150, 30), (299, 199)])
def test_a_crop_in_focus_holds_a_head_at_any_place_in_it(head):
    """One head in a large picture: crops laid anywhere seldom have it."""
    points, rng = np.float32([head]), np.random.default_rng(3)
    image, config = np.zeros((200, 300, 3), np.uint8), dataclasses.replace(PLAIN, scale=(0.7, 1.4))
    crops = {}
    for focus in (0.0, 0.5, 1.0):
        chosen = dataclasses.replace(config, focus=focus)
        crops[focus] = [random_crop(image, points, MODEL, chosen, rng)[1] for _ in range(400)]
    share = {focus: np.mean([heads.max() == 1 for heads in found]) for focus, found in crops.items()}
    assert share[1.0] == 1
    assert share[0.0] < 0.5
    assert share[0.5] == pytest.approx((share[0.0] + 1) / 2, abs=0.1)
    # Not at one place of the crop: a head away from the border is found in all its quarters.
    if head == (150, 30):
        places = np.array([np.unravel_index(heads.argmax(), heads.shape) for heads in crops[1.0]])
        quarters = {(int(row) // 16, int(column) // 16) for row, column in places}
        assert quarters == {(0, 0), (0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize("size", [(150, 110), (64, 200), (40, 30)])
def test_native_crops_are_the_pictures_own_pixels(size):
    """Whatever the zoom of the others: each native crop is found in the picture as it is, or mirrored."""
    rng = np.random.default_rng(4)
    # Every pixel is unlike any other.
    places = np.arange(size[0] * size[1], dtype=np.uint32).reshape(size)
    image = np.stack([places % 256, places // 256, np.full(size, 255)], axis=2).astype(np.uint8)
    points = (rng.random((20, 2)) * size[::-1]).astype(np.float32)
    config = dataclasses.replace(PLAIN, native=1.0, scale=(0.5, 2), aspect=(0.8, 1.2), focus=0.5)
    height, width = (min(MODEL.crop_size, side) for side in size)
    for _ in range(50):
        pixels, _, counts = random_crop(image, points, MODEL, config, rng)
        levels = np.round((pixels * MODEL.pixel_std + MODEL.pixel_mean) * 255).astype(int)
        # Past the picture there are zeros; the third channel is full inside.
        columns = np.flatnonzero(levels[2, 0] == 255)
        found = (levels[0] + 256 * levels[1])[:height, columns]
        found = found if found[0, 0] < found[0, 1] else found[:, ::-1]
        top, left = divmod(int(found[0, 0]), size[1])
        assert np.array_equal(found, places[top : top + height, left : left + width])
        inside = ((points >= [left, top]) & (points < [left + width, top + height])).all(axis=1)
        assert counts.sum() == inside.sum()


def test_some_crops_are_native():
    """Of crops zoomed by 1.5 or not at all, half hold 64 of the picture's columns and half 43."""
    image = np.ascontiguousarray(np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (300, 200, 3)))
    config, rng = dataclasses.replace(PLAIN, native=0.5, scale=(1.5, 1.5)), np.random.default_rng(5)
    spans = [np.ptp(random_crop(image, NOBODY, MODEL, config, rng)[0][0]) for _ in range(400)]
    columns = np.array(spans) * MODEL.pixel_std * 255
    native = np.abs(columns - 63) < 0.5
    assert native.mean() == pytest.approx(0.5, abs=0.1)
    assert (columns[~native] < 44).all()


def test_both_directions_of_the_flip_occur_and_the_head_follows():
    point = np.float32([[10, 30]])
    image = with_marks(64, 64, point)
    rng = np.random.default_rng(0)
    columns = {int(random_crop(image, point, MODEL, PLAIN, rng)[1].argmax()) % 32 for _ in range(20)}
    # x = 10 is cell 5; its mirror image lies just below 54, in cell 26.
    assert columns == {5, 26}


def test_without_changes_the_crop_is_the_normalised_picture():
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (64, 64, 3), np.uint8)
    pixels, _, _ = random_crop(image, NOBODY, MODEL, PLAIN, rng)
    expected = ((image / 255 - MODEL.pixel_mean) / MODEL.pixel_std).transpose(2, 0, 1)
    # float32 tables of values up to 2; the crop may be mirrored.
    assert min(np.abs(pixels - expected).max(), np.abs(pixels - expected[:, :, ::-1]).max()) < 1e-6


def test_a_small_picture_is_padded_with_zeros_and_not_enlarged():
    image = np.full((30, 40, 3), 255, np.uint8)
    points = np.float32([[0, 0], [39, 29]])
    rng = np.random.default_rng(0)
    for _ in range(10):
        pixels, heads, counts = random_crop(image, points, MODEL, PLAIN, rng)
        inside = pixels != 0
        assert inside.sum() == 3 * 30 * 40
        assert inside[:, :30, :40].all() or inside[:, :30, -40:].all()
        assert counts.sum() == 2
        assert (heads == 1).sum() == 2


def test_the_aspect_stretches_one_side_against_the_other():
    config = dataclasses.replace(PLAIN, aspect=(1.44, 1.44))
    points = np.float32([[20, 20], [40, 20], [20, 40]])
    rng = np.random.default_rng(0)
    _, heads, counts = random_crop(np.zeros((50, 50, 3), np.uint8), points, ModelConfig(crop_size=96), config, rng)
    rows, columns = np.nonzero(heads == 1)
    # 20 pixels become 20 * 1.2 across and 20 / 1.2 down: 12 and 8.3 cells of 2 pixels.
    assert np.ptp(columns) == 12
    assert np.ptp(rows) == 8
    assert counts.sum() == 3


def test_heads_outside_the_crop_are_dropped():
    points = np.stack(np.meshgrid(np.arange(5, 400, 10.0), np.arange(5, 400, 10.0)), axis=-1).reshape(-1, 2)
    image = np.zeros((400, 400, 3), np.uint8)
    rng = np.random.default_rng(0)
    totals = [random_crop(image, points, MODEL, PLAIN, rng)[2].sum() for _ in range(50)]
    # A 64-pixel window over a grid of pitch 10 holds 6 or 7 points each way.
    assert {36, 49} <= set(totals) <= {36, 42, 49}


def test_the_generator_alone_decides():
    image = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    first, second = (random_crop(image, NOBODY, MODEL, AugmentConfig(), np.random.default_rng(5))[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_padding_leaves_up_to_31_rows_and_columns_of_a_crop_empty() -> None:
    """As whole pictures are padded, but of mirrored crops on the left; and what is left out has no heads."""
    config = dataclasses.replace(PLAIN, padding=0.5, focus=0)
    image = np.full((200, 300, 3), 255, np.uint8)
    rng = np.random.default_rng(3)
    points = (rng.random((4000, 2)) * [300, 200]).astype(np.float32)
    rows, columns, padded = [], [], 0
    for _ in range(400):
        pixels, _, counts = random_crop(image, points, MODEL, config, rng)
        filled = pixels[0] != 0
        height, width = int(filled.any(1).sum()), int(filled.any(0).sum())
        assert filled.sum() == height * width
        assert filled[0].any()
        padded += height < 64 or width < 64
        rows.append(64 - height)
        columns.append(64 - width)
        # Four heads in 60 pixels squared, wherever there are pixels.
        assert counts.sum() == pytest.approx(4000 / 60000 * height * width, rel=0.35)
    assert max(rows) == max(columns) == 31
    assert 160 < padded < 240


@pytest.mark.parametrize("scale", [(0.7, 1.4), (1.2, 1.5), (0.5, 2.0)])
@pytest.mark.parametrize("aspect", [(0.9, 1.11), (1.0, 1.0), (0.8, 1.1)])
def test_pictures_without_people_fill_every_crop(scale: tuple[float, float], aspect: tuple[float, float]) -> None:
    """Else the empty strips would tell them from those with people."""
    config = AugmentConfig(scale=scale, aspect=aspect, padding=0, brightness=0, gamma=(1, 1))
    side = config.empty_size(64)
    assert 64 <= side < 64 / (0.9 * min(scale[0], 1) * aspect[0] ** 0.5) + 1
    picture = np.full((side, side, 3), 255, np.uint8)
    rng = np.random.default_rng(4)
    for _ in range(200):
        assert (random_crop(picture, NOBODY, MODEL, config, rng)[0] != 0).all()


@pytest.mark.parametrize("head", [(100, 50), (101.5, 50), (50, 80), (50, 81), (-1, 50), (50, -0.5), (100, 80)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_heads_on_a_border_or_just_beyond_are_trained_on(head, mirrored):
    """As they are counted: annotations may have them there."""
    points = np.array([head, (50, 50)], np.float32)
    config = dataclasses.replace(PLAIN, native=1.0, focus=0.0)
    crop = draw_crop(80, 100, points, 128, config, np.random.default_rng(0))
    placed = dataclasses.replace(crop, mirrored=mirrored).place(points, 128)
    expected = np.clip(points, 0, (100, 80))
    if mirrored:
        expected[:, 0] = 128 - expected[:, 0]
    np.testing.assert_allclose(placed, expected, atol=1e-4)
    assert (placed < 128).all()
    assert (placed >= 0).all()
    # A crop that is elsewhere does not have it.
    away = dataclasses.replace(crop, left=40.0, top=40.0, right=60.0, bottom=60.0)
    assert len(away.place(points, 128)) == 1
