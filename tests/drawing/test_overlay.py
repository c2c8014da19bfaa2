"""Overlays: what is drawn where, on any size of picture, and that it can be read."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageFont

from engine.drawing.overlay import colormap, crowding, draw_overlay, heat_of_heads

SIZES = [(1, 1), (8, 8), (1, 300), (300, 1), (97, 61), (600, 800)]


def grey(height: int, width: int, level: int) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def luminance(colours: np.ndarray) -> np.ndarray:
    """Relative luminance of sRGB (IEC 61966-2-1)."""
    c = colours / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("size", SIZES)
def test_any_size(size: tuple[int, int], level: int) -> None:
    height, width = size
    image = grey(height, width, level)
    heat = np.ones(((height + 1) // 2, (width + 1) // 2), np.float32)
    points = np.array([[0, 0], [width, height], [width / 2, height / 2]], np.float32)
    drawn = draw_overlay(image, heat=heat, points=points, banner="3 people · 1-5")
    assert drawn.size == (width, height)
    assert drawn.mode == "RGB"
    assert (image == level).all(), "the picture itself must not change"
    # A single pixel is all dot.
    assert (np.asarray(drawn) != level).any() or (size, level) == ((1, 1), 255)


def test_nothing_to_draw_leaves_the_picture() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    drawn = draw_overlay(image, heat=np.zeros((20, 25)), points=np.zeros((0, 2)), banner="")
    np.testing.assert_array_equal(np.asarray(drawn), image)


def test_heat_lies_where_the_map_has_it() -> None:
    heat = np.zeros((10, 20))
    heat[7:9, 3:5] = 1
    changed = (np.asarray(draw_overlay(grey(100, 200, 128), heat=heat)) != 128).any(-1)
    rows, columns = np.nonzero(changed)
    # Bilinear stretching spreads a cell by half of itself (5 pixels) to each side.
    assert 65 <= rows.min() < 75
    assert 85 <= rows.max() < 95
    assert 25 <= columns.min() < 35
    assert 45 <= columns.max() < 55


def test_the_picture_shows_through_full_heat() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    image[:, 10:] = 255
    drawn = np.asarray(draw_overlay(image, heat=np.ones((2, 2)))).astype(int)
    assert (drawn[:, 15] - drawn[:, 5]).min() > 50


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -3.0, 7.0])
def test_values_outside_the_range_do_not_break_the_layer(bad: float) -> None:
    heat = np.zeros((4, 4))
    heat[1, 1] = bad
    spread = heat_of_heads(crowding(heat))
    assert np.isfinite(spread).all()
    assert spread.min() >= 0
    assert spread.max() <= 1
    assert draw_overlay(grey(8, 8, 0), heat=heat).size == (8, 8)


def test_heat_of_heads() -> None:
    heads = np.zeros((400, 500), np.float32)
    heads[100:140:4, 100:140:4] = 1
    heads[300, 400] = 1
    heat = heat_of_heads(crowding(heads))
    assert heat.shape == heads.shape
    assert heat.dtype == np.float32
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 105 <= row <= 132
    assert 105 <= column <= 132
    assert 0 < heat[300, 400] < 0.5 * heat.max()
    assert heat[200, 250] == pytest.approx(0, abs=1e-3)
    assert not heat_of_heads(crowding(np.zeros((5, 6)))).any()
    # A large map is averaged down, and looks the same.
    large = heat_of_heads(crowding(np.kron(heads, np.ones((4, 4), np.float32))))
    assert large.shape == (534, 667)
    row, column = np.unravel_index(large.argmax(), large.shape)
    assert 105 <= row * 3 / 4 <= 132
    assert 105 <= column * 3 / 4 <= 132
    # A faint map is not stretched until it looks crowded.
    assert heat_of_heads(crowding(np.full((200, 200), 1e-3))).max() < 0.2


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("at", [(40.5, 30.5), (0.2, 0.2), (99.9, 79.9)])
def test_a_dot_is_light_in_the_middle_with_a_dark_rim(at: tuple[float, float], level: int) -> None:
    image = grey(80, 100, level)
    drawn = np.asarray(draw_overlay(image, points=np.array([at])))
    x, y = int(at[0]), int(at[1])
    assert (drawn[y, x] == 255).all()
    near = drawn[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].min()
    assert near < 128
    far = drawn.copy()
    far[max(y - 4, 0) : y + 5, max(x - 4, 0) : x + 5] = level
    assert (far == level).all()


def test_dots_shrink_where_points_are_dense() -> None:
    image = grey(1000, 1000, 128)
    few = np.array([[500.5, 500.5]])
    y, x = np.mgrid[100:300:8, 100:300:8]
    many = np.concatenate([few, np.stack([x.ravel(), y.ravel()], -1)])

    def radius(points: np.ndarray) -> int:
        row = np.asarray(draw_overlay(image, points=points))[500, 480:520, 0]
        return int((row != 128).sum())

    assert radius(few) > radius(many) >= 3


def test_points_outside_the_picture_are_left_out() -> None:
    image = grey(50, 50, 9)
    drawn = draw_overlay(image, points=np.array([[-100.0, 20], [20, 1000.0]]))
    np.testing.assert_array_equal(np.asarray(drawn), image)


@pytest.mark.parametrize("level", [0, 90, 255])
@pytest.mark.parametrize("size", [(120, 160), (768, 1024), (2000, 900)])
def test_the_banner_can_be_read(size: tuple[int, int], level: int) -> None:
    height, width = size
    drawn = np.asarray(draw_overlay(grey(height, width, level), banner="1234 people · 1100-1300"))
    rows, columns = np.nonzero((drawn != level).any(-1))
    # In the corner, and not cut off.
    assert rows.max() < height / 4
    assert columns.max() < width
    assert rows.max() - rows.min() >= 11
    plate = drawn[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].reshape(-1, 3)
    light = luminance(plate)
    text, ground = np.quantile(light, 0.995), np.median(light)
    # WCAG 2.1, success criterion 1.4.3.
    assert (text + 0.05) / (ground + 0.05) >= 4.5


def test_the_banner_is_left_out_where_it_could_not_be_read() -> None:
    image = grey(8, 8, 77)
    np.testing.assert_array_equal(np.asarray(draw_overlay(image, banner="12 people · 1-20")), image)


def test_the_font_has_every_sign_of_the_banner() -> None:
    font = ImageFont.load_default(40)
    missing = bytes(font.getmask("\uffff"))
    for sign in "0123456789 ·-peoplrsn":
        assert bytes(font.getmask(sign)) != missing, sign


def test_the_colour_map_grows_lighter_evenly() -> None:
    colours = colormap(np.linspace(0, 1, 101))
    assert colours.dtype == np.uint8
    assert colours.shape == (101, 3)
    light = np.cbrt(luminance(colours))
    steps = np.diff(light[::10])
    assert (steps > 0).all()
    assert steps.max() < 2.2 * steps.min()
