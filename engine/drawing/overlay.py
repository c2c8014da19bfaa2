"""Drawing on a picture: a heat layer, dots at points, zones, and a banner."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from engine.drawing.lettering import DARK, LIGHT, Plate, fit
from engine.drawing.zones import Box, LineMark, ZoneMark, draw_zones

# Anchors of viridis, at equal distances: perceptually uniform, and readable with every colour blindness.
_VIRIDIS = (
    (68, 1, 84),
    (72, 40, 120),
    (62, 74, 137),
    (49, 104, 142),
    (38, 130, 142),
    (31, 158, 137),
    (53, 183, 121),
    (109, 205, 89),
    (180, 222, 44),
    (253, 231, 37),
)
# The heat layer never hides the picture altogether, and reaches its full strength at this value.
_HEAT_OPACITY = 0.72
_OPAQUE_FROM = 0.55
# Blur of crowding, as a part of the longer side; and the mean value that already counts as hot, so
# that a near-empty map is not stretched to look crowded.
_HEAT_BLUR = 0.012
_HEAT_FLOOR = 0.03
# Larger maps are averaged down to between one and two times this many cells along their longer side.
_HEAT_SIDE = 512
# Perspective makes near crowds look sparse; the root keeps them visible beside the far, dense ones.
_HEAT_GAMMA = 0.6
# Cells along the longer side in which the crowding that sets the size of dots is measured.
_DOT_CELLS = 32


def draw_overlay(
    image: np.ndarray,
    *,
    heat: np.ndarray | None = None,
    points: np.ndarray | None = None,
    banner: str | Sequence[str] | None = None,
    zones: Sequence[ZoneMark] = (),
    lines: Sequence[LineMark] = (),
    note: str | Sequence[str] | None = None,
) -> Image.Image:
    """Draw a heat layer, then dots, zones and lines, then a banner and a note on a picture.

    Args:
        image: uint8 [H, W, 3] RGB; unchanged.
        heat: float [h, w] in [0, 1], any size; stretched over the picture, transparent where 0.
        points: float [N, 2], (x, y) in pixels; the centre of the first pixel is (0.5, 0.5). Dots are sized
            to the picture and to how many there are.
        banner: text for the top left corner, or several from long to short, of which the first that can be read is
            taken; left out where none can.
        zones, lines: outlined and labelled.
        note: smaller text for the bottom left corner, as ``banner``.

    Returns:
        RGB image of the size of ``image``.

    >>> draw_overlay(np.zeros((8, 9, 3), np.uint8), points=np.array([[4.5, 4.5]]), banner="1 person").size
    (9, 8)
    """
    canvas = Image.fromarray(image)
    if heat is not None:
        _draw_heat(canvas, heat)
    if points is not None and len(points):
        _draw_dots(canvas, points)
    plates = [*_corner_plates(canvas.size, banner, note)]
    if zones or lines:
        draw_zones(canvas, zones, lines, [box for _, box in plates])
    for plate, (left, top, _, _) in plates:
        plate.draw(canvas, (round(left), round(top)))
    return canvas


def count_texts(count: int, interval: tuple[int, int]) -> tuple[str, str, str]:
    """A count in words, from long to short.

    >>> count_texts(1, (1, 2))
    ('1 person · 1-2', '1 person', '1')
    """
    people = f"{count} {'person' if count == 1 else 'people'}"
    # The built-in font has no en dash.
    return f"{people} · {interval[0]}-{interval[1]}", people, str(count)


def crowding(heatmap: np.ndarray) -> np.ndarray:
    """How crowded each place is, from a map of narrow peaks, one for each head.

    Args:
        heatmap: float [h, w] in [0, 1].

    Returns:
        float32 >= 0, [h, w] or coarser by a whole factor.
    """
    blurred = np.clip(np.nan_to_num(heatmap), 0, 1).astype(np.float32)
    # What the blur takes away need not be computed.
    blurred = np.asarray(Image.fromarray(blurred).reduce(max(1, max(heatmap.shape) // _HEAT_SIDE)))
    radius = max(1, round(_HEAT_BLUR * max(blurred.shape)))
    # Three boxes are nearly a Gaussian; Pillow's own has 8 bits, too few for the faint ends that a few heads leave.
    for _ in range(3):
        blurred = _box_blur(_box_blur(blurred, radius).T, radius).T
    return np.maximum(blurred, 0)


def heat_of_heads(crowded: np.ndarray, hottest: float | None = None) -> np.ndarray:
    """The heat layer of a picture.

    Args:
        crowded: of :func:`crowding`.
        hottest: what is drawn hottest; None takes the most crowded place.

    Returns:
        float32 in [0, 1], of the same shape; nobody anywhere stays cold.
    """
    top = float(crowded.max()) if hottest is None else hottest
    return np.minimum(crowded / max(top, _HEAT_FLOOR), 1) ** np.float32(_HEAT_GAMMA)


def colormap(values: np.ndarray) -> np.ndarray:
    """Colours uint8 [..., 3] of values in [0, 1]: viridis, interpolated between ten anchors.

    >>> colormap(np.array([0.0, 1.0])).tolist()
    [[68, 1, 84], [253, 231, 37]]
    """
    anchors = np.array(_VIRIDIS, np.float64)
    at = np.linspace(0, 1, len(anchors))
    channels = [np.interp(values, at, anchors[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, -1)).astype(np.uint8)


def _box_blur(rows: np.ndarray, radius: int) -> np.ndarray:
    """Mean over 2 * radius + 1 rows; outside the map there is nothing, so that edges do not glow."""
    padded = np.pad(rows, ((radius + 1, radius), (0, 0)))
    sums = np.cumsum(padded, axis=0, dtype=np.float64)
    return ((sums[2 * radius + 1 :] - sums[: -2 * radius - 1]) / (2 * radius + 1)).astype(np.float32)


def _draw_heat(canvas: Image.Image, heat: np.ndarray) -> None:
    levels = Image.fromarray(np.rint(np.clip(np.nan_to_num(heat), 0, 1) * 255).astype(np.uint8))
    levels = levels.resize(canvas.size, Image.Resampling.BILINEAR)
    ramp = np.linspace(0, 1, 256)
    strength = np.clip(ramp / _OPAQUE_FROM, 0, 1)
    opacity = np.rint(255 * _HEAT_OPACITY * strength * strength * (3 - 2 * strength)).astype(np.uint8)
    mask = levels.point(opacity.tolist())
    # The levels become indices into the colours: Pillow converts a palette in one pass.
    levels.putpalette(colormap(ramp).tobytes())
    canvas.paste(levels.convert("RGB"), mask=mask)


def _draw_dots(canvas: Image.Image, points: np.ndarray) -> None:
    radius = min(0.0036 * math.sqrt(canvas.width * canvas.height), 0.2 * _spacing(canvas.size, points))
    stamp, mask = _dot_stamp(max(1.0, radius))
    middle = stamp.width // 2
    corners = np.floor(points).astype(int) - middle
    for x, y in corners.tolist():
        canvas.paste(stamp, (x, y), mask)


def _spacing(size: tuple[int, int], points: np.ndarray) -> float:
    """Distance between neighbours, in pixels, where most points are."""
    cell = max(size) / _DOT_CELLS
    columns, rows = np.clip(points / cell, 0, _DOT_CELLS - 1).astype(int).T
    cells = rows * _DOT_CELLS + columns
    crowding = float(np.median(np.bincount(cells)[cells]))
    return cell / math.sqrt(crowding)


def _dot_stamp(radius: float) -> tuple[Image.Image, Image.Image]:
    """An antialiased dot with a dark rim: its colours, and how much of each pixel it covers."""
    rim = max(1.0, 0.45 * radius)
    reach = math.ceil(radius + rim)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(x, y)
    inside = np.clip(radius + 0.5 - distance, 0, 1)[..., None]
    colours = inside * np.array(LIGHT) + (1 - inside) * np.array(DARK)
    cover = np.clip(radius + rim + 0.5 - distance, 0, 1)
    # On pictures of a few pixels the rim only hints at the edge, instead of hiding what is around.
    strength = 255 if radius > 1 else 190
    cover = np.maximum(cover * strength, inside[..., 0] * 255)
    return Image.fromarray(np.rint(colours).astype(np.uint8)), Image.fromarray(np.rint(cover).astype(np.uint8))


def _corner_plates(
    size: tuple[int, int], banner: str | Sequence[str] | None, note: str | Sequence[str] | None
) -> Iterator[tuple[Plate, Box]]:
    """The plates of both texts, each with (left, top, right, bottom)."""
    width, height = size
    scale = math.sqrt(width * height)
    # The count matters more than what it hides of a small picture; the note does not.
    for texts, best, most, at_top in ((banner, 0.034, 0.6, True), (note, 0.02, 0.15, False)):
        texts = [texts] if isinstance(texts, str) else texts or []
        chosen = fit(texts, max(12, best * scale), 0.9 * width, most * height)
        if not chosen or not chosen[0]:
            continue
        plate = Plate(*chosen)
        margin = round(0.35 * chosen[1])
        top = margin if at_top else height - margin - plate.extent[1]
        yield plate, (margin, top, margin + plate.extent[0], top + plate.extent[1])
