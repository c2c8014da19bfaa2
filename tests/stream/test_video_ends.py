"""How videos end: whole, slowly, or cut."""

from __future__ import annotations

import pytest
from PIL import Image
from videos import number_of, numbered, write_video

from engine.errors import SourceError
from engine.outputs.video import VideoWriter
from engine.stream.opening import StreamOptions, open_source

NUMBERS = [0, 40, 80, 120, 160, 200]


def test_a_cut_file_gives_what_it_has_and_says_that_it_is_cut(tmp_path) -> None:
    path = write_video(tmp_path / "a.mkv", [numbered(n) for n in NUMBERS] * 4, codec="ffv1", pixels="bgr0")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    seen = []
    with pytest.raises(SourceError, match=r"ends early|damaged"):
        seen.extend(number_of(f.image) for f in open_source(path, StreamOptions()).frames())
    assert 2 < len(seen) < 24
    assert seen == (NUMBERS * 4)[: len(seen)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_a_slow_video_is_whole(tmp_path, name) -> None:
    """A picture every two seconds: the last one begins two seconds before the end."""
    with VideoWriter(tmp_path / name, 0.5) as video:
        for number in range(5):
            video.write(numbered(number), 2.0 * number)
    frames = list(open_source(str(tmp_path / name), StreamOptions()).frames())
    assert [frame.timestamp for frame in frames] == [0, 2, 4, 6, 8]


def test_an_animation_may_hold_its_last_picture(tmp_path) -> None:
    pictures = [Image.fromarray(numbered(n)) for n in range(3)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=[200, 200, 3000])
    assert len(list(open_source(str(tmp_path / "a.gif"), StreamOptions()).frames())) == 3


def test_a_slow_video_that_is_cut_says_so(tmp_path) -> None:
    path = write_video(tmp_path / "a.mkv", [numbered(n) for n in NUMBERS], rate=1, codec="ffv1", pixels="bgr0")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    with pytest.raises(SourceError, match=r"ends early|damaged"):
        list(open_source(str(path), StreamOptions()).frames())
