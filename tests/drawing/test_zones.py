"""Outlines and labels of zones: where they are, that they can be seen and read, on any ground and by everybody."""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.drawing import zones
from engine.drawing.lettering import DARK, GOOD_FONT, LIGHT, SMALLEST_FONT, Plate, fit, spell
from engine.drawing.overlay import colormap, count_texts, draw_overlay
from engine.drawing.zones import ALERT, PALETTE, LineMark, ZoneMark, draw_zones

BOX = np.array([(60, 50), (260, 50), (260, 190), (60, 190)], float)
# Machado, Oliveira and Fernandes 2009, severity 1: linear RGB as people without one kind of cone see it.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colours: Any) -> np.ndarray:
    """Linear RGB of sRGB (IEC 61966-2-1)."""
    c = np.asarray(colours) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(colours: Any, blindness: str) -> np.ndarray:
    """CIE 1976 L*a*b* as seen with a colour blindness."""
    seen = np.clip(linear(colours) @ np.array(BLINDNESS[blindness]).T, 0, 1) @ XYZ.T / XYZ.sum(axis=1)
    f = np.where(seen > 216 / 24389, np.cbrt(seen), (24389 / 27 * seen + 16) / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def contrast(a: Any, b: Any) -> np.ndarray:
    """WCAG 2.1's contrast ratio."""
    light = np.stack(np.broadcast_arrays(linear(a) @ XYZ[1], linear(b) @ XYZ[1]))
    return (light.max(axis=0) + 0.05) / (light.min(axis=0) + 0.05)


def drawn(level: int, *, size: tuple[int, int] = (320, 240), zones: Any = (), lines: Any = ()) -> np.ndarray:
    canvas = Image.new("RGB", size, (level,) * 3)
    draw_zones(canvas, zones, lines)
    return np.asarray(canvas)


@pytest.mark.parametrize("alert", [False, True])
@pytest.mark.parametrize("number", range(len(PALETTE)))
def test_outlines_are_where_the_zone_is(number: int, alert: bool) -> None:
    zones = [ZoneMark("", BOX + 5000, 0)] * number + [ZoneMark("gate", BOX, 12, alert)]
    picture = drawn(128, zones=zones)
    colour = ALERT if alert else PALETTE[number]
    # The middle of each side, away from the label.
    for y, x in ((50, 100), (189, 100), (100, 60), (100, 259)):
        assert (np.abs(picture[y - 1 : y + 2, x - 1 : x + 2].astype(int) - colour).sum(axis=-1) < 40).any()
    rows, columns = np.nonzero((picture != 128).any(axis=-1))
    assert 45 <= rows.min() < 50 <= 190 < rows.max() <= 196
    assert 55 <= columns.min() < 60 <= 260 < columns.max() <= 266
    inside = picture[56:184, 66:254]
    # But for the outline and the label in the middle, the picture is as it was.
    assert (inside[:30] == 128).all()
    assert (inside[90:] == 128).all()
    assert (inside != 128).any()


@pytest.mark.parametrize("level", [0, 60, 128, 200, 255])
@pytest.mark.parametrize("alert", [False, True])
def test_outlines_show_on_any_ground(level: int, alert: bool) -> None:
    for number in range(len(PALETTE)):
        zones = [ZoneMark("", BOX + 5000, 0)] * number + [ZoneMark("", BOX, 0, alert)]
        column = drawn(level, zones=zones)[40:60, 100]
        # WCAG 2.1, success criterion 1.4.11: rim or colour, one of them stands out. Of an alert, on dark grey neither
        # quite does, but it is twice as thick.
        assert contrast(column, (level,) * 3).max() >= (2.7 if alert else 3)
    line = drawn(level, lines=[LineMark("", np.array([(10, 50), (300, 50)]), 1, 2)])[40:60, 30]
    assert contrast(line, (level,) * 3).max() >= 3


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_colours_differ_for_everybody(blindness: str) -> None:
    """A difference of 10 is seen at a glance; about 2 is just seen side by side."""
    for a, b in itertools.combinations([*PALETTE, ALERT], 2):
        assert np.linalg.norm(lab(a, blindness) - lab(b, blindness)) > 10, (a, b)
    # The heat map grows lighter for everybody, so that its order is plain.
    light = lab(colormap(np.linspace(0, 1, 20)), blindness)[:, 0]
    assert (np.diff(light) > 0).all()


def test_text_has_contrast() -> None:
    # WCAG 2.1, success criterion 1.4.3. Of a dark plate, what shines through is at most 16 % white.
    shining = np.array(DARK) * 215 / 255 + 255 * 40 / 255
    assert contrast(LIGHT, shining) >= 4.5
    assert contrast(DARK, ALERT) >= 4.5


def plates(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], zones: Any, lines: Any = ()) -> list[Any]:
    """(text, left, top, right, bottom) of every label."""
    found: list[Any] = []

    def draw(self: Plate, canvas: Image.Image, corner: tuple[int, int]) -> None:
        found.append((self.text, *corner, corner[0] + self.extent[0], corner[1] + self.extent[1]))

    monkeypatch.setattr(Plate, "draw", draw)
    drawn(128, size=size, zones=zones, lines=lines)
    return found


def test_labels_say_name_and_number_inside_the_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    # The middle of an L is outside of it.
    ell = np.array([(0, 0), (120, 0), (120, 400), (600, 400), (600, 480), (0, 480)], float)
    zones = [ZoneMark("gate", ell, 12), ZoneMark("北门", BOX * 1.2 + (150, 0), 7, alert=True)]
    (first, *a), (second, *b) = plates(monkeypatch, (640, 480), zones)
    assert (first, second) == ("gate: 12", "! zone 2: 7")
    x, y = (a[0] + a[2]) / 2, (a[1] + a[3]) / 2
    assert x < 120 or y > 400
    assert abs((b[0] + b[2]) / 2 - (BOX.mean(axis=0) * 1.2 + (150, 0))[0]) < 10


@pytest.mark.parametrize("size", [(40, 30), (160, 120), (1920, 1080), (3000, 200), (200, 3000)])
def test_labels_stay_in_the_picture_and_off_each_other(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    zones = [ZoneMark(f"platform {n}", (rng.random((4, 2)) * 1.4 - 0.2) * size, 1000 + n) for n in range(12)]
    lines = [LineMark("door", np.array([(0.1, 0.5), (0.9, 0.4)]) * size, 10, 2000)]
    found = plates(monkeypatch, size, zones, lines)
    assert len(found) >= (0 if min(size) < 100 else 5)
    for _, left, top, right, bottom in found:
        assert left >= 0
        assert top >= 0
        assert right <= size[0] + 1
        assert bottom <= size[1] + 1
    for (_, *a), (_, *b) in itertools.combinations(found, 2):
        # Places are whole pixels.
        assert a[0] >= b[2] - 1 or b[0] >= a[2] - 1 or a[1] >= b[3] - 1 or b[1] >= a[3] - 1


def test_sides_of_a_line_are_labelled_on_their_side(monkeypatch: pytest.MonkeyPatch) -> None:
    down = LineMark("door", np.array([(320.0, 50), (320, 400)]), 3, 9)
    (left, *a), (right, *b) = plates(monkeypatch, (640, 480), (), [down])
    assert (left, right) == ("door: 3 left", "9 right")
    # Who walks downwards has the larger x on the left.
    assert a[0] > 320
    assert b[2] < 320


def test_a_line_runs_on_to_the_border() -> None:
    picture = drawn(128, lines=[LineMark("", np.array([(150.0, 120.0), (170, 120)]), 0, 0)])
    assert (picture[119:122, 2] != 128).any()
    assert (picture[119:122, 317] != 128).any()


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (1, 300), (300, 1), (97, 61)])
def test_any_size(size: tuple[int, int]) -> None:
    # Also corners far outside, and a zone that is not on the picture.
    corners = np.array([(-1e6, -5), (1e6, -7), (1e6, 1e6), (-1e6, 1e6)])
    zones = [ZoneMark("a", corners, 5), ZoneMark("b", corners + 3e6, 5, alert=True)]
    lines = [LineMark("c", np.array([(-1e6, 0.5), (1e6, 0.7)]), 1, 2)]
    image = np.full((size[1], size[0], 3), 77, np.uint8)
    overlay = draw_overlay(image, zones=zones, lines=lines, banner=count_texts(5, (1, 9)), note="0:01.0")
    assert overlay.size == size


def test_the_longest_text_that_can_be_read() -> None:
    texts = count_texts(1234, (1100, 1300))
    assert texts == ("1234 people · 1100-1300", "1234 people", "1234")
    assert fit(texts, 30, 1000, 1000) == (texts[0], 30)
    sizes = {}
    for width in range(400, 0, -1):
        chosen = fit(texts, 30, width, 1000)
        if chosen is None:
            break
        sizes.setdefault(chosen[0], []).append(chosen[1])
        # Letters are set on whole pixels.
        assert Plate(*chosen).extent[0] <= 1.05 * width + 1
    assert list(sizes) == list(texts)
    assert min(sizes[texts[0]]) >= GOOD_FONT
    assert min(sizes[texts[1]]) >= GOOD_FONT
    assert SMALLEST_FONT <= min(sizes[texts[2]]) < GOOD_FONT
    assert width < 30
    assert fit([], 30, 100, 100) is None


@pytest.mark.parametrize("size", [(48, 36), (64, 48), (100, 75), (160, 120)])
def test_the_count_is_on_small_pictures_too(size: tuple[int, int]) -> None:
    image = np.full((size[1], size[0], 3), 128, np.uint8)
    pictures = [np.asarray(draw_overlay(image, banner=count_texts(n, (n, n)))) for n in (123, 124, 1234)]
    assert all((a != b).any() for a, b in itertools.combinations(pictures, 2))


@pytest.mark.parametrize(
    ("name", "text"),
    [("gate 2", "gate 2"), ("Größe", "zone 4"), ("Café Öst", "Cafe Ost"), ("ﬁn", "fin"), ("вход", "zone 4")],
)
def test_names_in_the_signs_of_the_font(name: str, text: str) -> None:
    assert spell(name, "zone 4") == text


def whole_pieces(path: np.ndarray, size: tuple[int, int], width: float) -> np.ndarray:
    """Pieces of whole edges, of which those off the picture are left out afterwards."""
    step = max(64.0, 4 * width)
    pieces = [np.stack([path, path], axis=1)]
    for start, end in itertools.pairwise(path):
        cuts = np.linspace(0, 1, 1 + max(1, math.ceil(np.hypot(*(end - start)) / step)))[:, None]
        corners = start + cuts * (end - start)
        pieces.append(np.stack([corners[:-1], corners[1:]], axis=1))
    cut = np.concatenate(pieces)
    seen = (cut.max(axis=1) >= -width) & (cut.min(axis=1) <= np.array(size) + width)
    return cut[seen.all(axis=1)]


@pytest.mark.parametrize("reach", [0.2, 2, 50])
def test_edges_are_cut_at_the_picture_and_look_the_same(reach: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(int(reach * 10))
    for number in range(12):
        size = int(rng.integers(1, 300)), int(rng.integers(1, 300))
        corners = rng.uniform(-reach, 1 + reach, (int(rng.integers(3, 12)), 2)) * size
        if number % 2:
            # Level and upright edges, and some along the border.
            corners = np.repeat(np.clip(np.rint(corners), -9, np.array(size) + 9), 2, axis=0)
            corners[1::2, 0] = np.roll(corners[::2, 0], -1)
        marks = (
            [ZoneMark("", corners, None, alert=bool(number % 3))],
            [LineMark("", corners[:2] + np.eye(2), 0, 0)],
        )
        drawn = []
        for cut in (zones._pieces, whole_pieces):
            monkeypatch.setattr(zones, "_pieces", cut)
            canvas = Image.new("RGB", size, (120, 130, 140))
            draw_zones(canvas, *marks)
            drawn.append(np.asarray(canvas))
            monkeypatch.undo()
        assert np.array_equal(*drawn)


def test_a_zone_far_larger_than_the_picture_is_drawn_in_no_time() -> None:
    """1,000 edges of two million pixels each, in 21 KB of JSON, took half a minute and 2.6 GB."""
    corners = np.array([(-1e6 if i % 2 else 1e6, i * 0.48) for i in range(1000)])
    start = time.process_time()
    pieces = zones._pieces(corners, (640, 480), 4.0)
    assert time.process_time() - start < 2
    assert 1000 < len(pieces) < 20_000
    inside = np.array([[-1e6, 240.0], [1e6, 240.0]])
    near = zones._pieces(inside, (640, 480), 4.0)
    assert near[:, :, 0].min() > -3 * 64
    assert near[:, :, 0].max() < 640 + 3 * 64
