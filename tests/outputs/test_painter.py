"""Frames drawn one after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stream_frames import counted_frame

from engine.errors import ConfigError
from engine.outputs.painter import FramePainter, note_texts
from engine.zones.layout import ZoneLayout

LAYOUT = ZoneLayout.from_dict({"zones": {"box": [[100, 100], [220, 100], [220, 200], [100, 200]]},
                               "lines": {"door": [[250, 20], [250, 220]]}})  # fmt: skip
SIZE = (320, 240)


def test_every_layer_is_drawn() -> None:
    heads = [(150.5, 150.5), (30, 160)]
    frame = counted_frame(2, 75.2, heads, size=SIZE, layout=LAYOUT, dropped=3)
    full = FramePainter().draw(frame, 8.3, ["box"])
    assert full.shape == (240, 320, 3)
    assert full.dtype == np.uint8
    bare = FramePainter().draw(counted_frame(2, 75.2, [], size=SIZE))
    no_heat = replace(frame, result=replace(frame.result, heatmap=0 * frame.result.heatmap))
    pictures = [
        full,
        bare,
        FramePainter().draw(no_heat, 8.3, ["box"]),
        FramePainter().draw(counted_frame(2, 75.2, heads, size=SIZE, dropped=3), 8.3, ["box"]),
        FramePainter().draw(frame, 8.3),
        FramePainter().draw(frame, None, ["box"]),
    ]
    for number, picture in enumerate(pictures):
        assert all((picture != other).any() for other in pictures[:number]), number
    # A head has its dot, which is white, whatever the heat around it.
    assert (full[160, 30] == 255).all()
    # Only the banner above and the note below are on one without heads and zones.
    assert (bare[60:200] == 50).all()
    assert (bare[:40] != 50).any()
    assert (bare[215:] != 50).any()
    assert (np.asarray(frame.image) == 50).all(), "the frame itself must not change"


def test_the_heat_does_not_flicker() -> None:
    crowded = counted_frame(0, points=[(x + 100, 100) for x in range(0, 40, 4)], size=SIZE)
    lonely = counted_frame(0, points=[(200, 100)], size=SIZE)

    def heat(painter: FramePainter) -> int:
        return int(np.ptp(painter.draw(lonely).astype(int), axis=-1).max())

    alone = heat(FramePainter())
    painter = FramePainter()
    painter.draw(crowded)
    after = heat(painter)
    assert after < 0.9 * alone
    for _ in range(100):
        painter.draw(lonely)
    assert heat(painter) == alone


def test_a_frame_without_its_picture() -> None:
    with pytest.raises(ConfigError, match="frame 4"):
        FramePainter().draw(counted_frame(4, image=False))


def test_times_are_written_as_people_read_them() -> None:
    assert note_texts(0, None, 0) == ("0:00.0",)
    assert note_texts(59.99, None, 0) == ("0:59.9",)
    assert note_texts(3725.3, 25, 1)[0] == "1:02:05.3 · 25.0 fps · 1 dropped"
