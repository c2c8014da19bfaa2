"""``to_supervision()`` in supervision's own zones and annotators."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from engine.result import CountResult
from engine.zones.members import count_zones

# It is in the dev extra; users of a smaller install have no use for this test.
sv = pytest.importorskip("supervision", reason="supervision is not installed; it is in the extra 'dev'")

SIZE = (320, 240)


def result(people: int) -> CountResult:
    rng = np.random.default_rng(0)
    points = (rng.random((people, 2)) * SIZE).astype(np.float32)
    cell = np.zeros((1, 1), np.float32)
    scores = rng.random(people).astype(np.float32)
    return CountResult(people, points, scores, cell, cell, cell, interval=(people, people), image_size=SIZE)


@pytest.mark.parametrize("people", [0, 1, 300])
def test_polygon_zone_counts_as_ours_do(people: int) -> None:
    corners = [(40, 30), (250, 50), (200, 220), (60, 180)]
    counted = result(people)
    zone = sv.PolygonZone(polygon=np.array(corners), triggering_anchors=[sv.Position.CENTER])
    inside = zone.trigger(counted.to_supervision())
    assert len(inside) == people
    # It tests whole pixels; ours, the places of the points themselves.
    ends = np.array(corners, float)
    along = np.roll(ends, -1, axis=0) - ends
    part = ((counted.points[:, None] - ends) * along).sum(-1) / (along**2).sum(-1)
    nearest = ends + np.clip(part, 0, 1)[..., None] * along
    clear = np.hypot(*np.moveaxis(counted.points[:, None] - nearest, -1, 0)).min(axis=1, initial=np.inf) > 2
    ours = [count_zones(point[None], {"zone": corners})["zone"] for point in counted.points]
    np.testing.assert_array_equal(inside[clear], np.array(ours, bool)[clear])
    assert zone.current_count == inside.sum()
    assert clear.sum() >= 0.8 * people


@pytest.mark.parametrize("people", [0, 1, 300])
def test_annotators_draw_where_the_points_are(people: int) -> None:
    counted = result(people)
    detections = counted.to_supervision()
    black = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    dots = sv.DotAnnotator(radius=2, position=sv.Position.CENTER).annotate(black.copy(), detections)
    near = np.zeros(dots.shape[:2], bool)
    for x, y in np.floor(counted.points).astype(int):
        assert dots[y, x].any()
        near[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5] = True
    assert not dots[~near].any()
    grey = np.full_like(black, 90)
    heat = sv.HeatMapAnnotator(position=sv.Position.CENTER, radius=10).annotate(grey.copy(), detections)
    assert heat.shape == grey.shape
    assert (heat != grey).any() == (people > 0)


def test_it_needs_no_opencv() -> None:
    """supervision draws without OpenCV if it is not there, so ours needs neither."""
    program = (
        "import sys; sys.modules['cv2'] = None\n"
        "import numpy as np, supervision as sv\n"
        "d = sv.Detections(xyxy=np.array([[5, 5, 5, 5]], np.float32), class_id=np.zeros(1, int))\n"
        "out = sv.DotAnnotator(position=sv.Position.CENTER).annotate(np.zeros((20, 20, 3), np.uint8), d)\n"
        "zone = sv.PolygonZone(np.array([[0, 0], [9, 0], [9, 9], [0, 9]]), triggering_anchors=[sv.Position.CENTER])\n"
        "assert zone.trigger(d).all() and out[5, 5].any()"
    )
    run = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
