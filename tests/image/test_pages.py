"""Pages and frames are found without decoding them."""

from __future__ import annotations

import io
import struct
import time

import numpy as np
import pillow_heif
import pytest
from pictures import smooth
from PIL import GifImagePlugin, Image

from engine.errors import ImageError
from engine.image.load import load_image

GREY = smooth(24, 40)[..., 1]


def gif(frames: int, side: int = 4000, disposal: int = 2) -> bytes:
    """A file of some bytes a frame, each of which would take the memory and the time of the whole side."""
    control = b"\x21\xf9\x04" + bytes([disposal << 2]) + b"\0\0\0\0"
    comment = b"\x21\xfe\x05,;,;!\0"
    table = b"\0\0\0\xff\xff\xff"
    frame = control + comment + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0x80) + table + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + table + frame * frames + b";"


@pytest.fixture
def decoded(monkeypatch):
    """The frames that are sought."""
    sought: list[int] = []
    seek = GifImagePlugin.GifImageFile._seek

    def record(image, frame, update_image=True):
        sought.append(frame)
        seek(image, frame, update_image)

    monkeypatch.setattr(GifImagePlugin.GifImageFile, "_seek", record)
    return sought


@pytest.mark.parametrize(("frames", "said"), [(2, "2"), (1000, "1000"), (1001, "more than 1000"), (5000, "more than")])
def test_frames_of_a_gif_are_counted_and_not_decoded(frames: int, said: str, decoded: list[int]) -> None:
    """300 frames of 4,000 x 4,000 pixels, in 11 KB, took 15 seconds."""
    data = gif(frames)
    for source in (data, Image.open(io.BytesIO(data))):
        warnings: list[str] = []
        load_image(source, warn=warnings.append)
        assert [f"the file has {said}" in warning for warning in warnings] == [True]
        assert set(decoded) == {0}


def test_a_page_that_a_gif_lacks_is_refused_before_any_is_decoded(decoded: list[int]) -> None:
    data = gif(300)
    for source in (data, Image.open(io.BytesIO(data))):
        with pytest.raises(ImageError, match="no page 300: it has 300"):
            load_image(source, page=300)
        assert set(decoded) == {0}
    small = gif(3, side=8)
    assert load_image(small, page=2).shape == (8, 8, 3)


def test_a_gif_of_blocks_without_end_takes_no_long_time() -> None:
    head = gif(1, side=8)[:-1]
    for filling in (b"\x21\xfe" + b"\x01x" * (1 << 23), b"x" * (1 << 24)):
        start = time.process_time()
        load_image(head + filling + b"\0;", warn=lambda text: pytest.fail(text))
        assert time.process_time() - start < 5


def tiff(pages: int, order: str = "<", copies: tuple[int, ...] = (), extra: int = 0, form: int = 4) -> bytes:
    """Pages that share one strip of grey, some of them smaller copies, each with ``extra`` tags that say nothing."""
    height, width = GREY.shape
    data, entries = (b"II*\0" if order == "<" else b"MM\0*") + bytes(4) + GREY.tobytes(), []
    size = 2 + 12 * (10 + extra) + 4
    for page in range(pages):
        tags = [(254, form, int(page in copies)), (256, 4, width), (257, 4, height), (258, 4, 8), (259, 4, 1),
                (262, 4, 1), (273, 4, 8), (277, 4, 1), (278, 4, height), (279, 4, width * height)]  # fmt: skip
        tags += [(40000 + i, 4, 0) for i in range(extra)]
        rows = b"".join(
            struct.pack(f"{order}HHIH2x" if kind == 3 else f"{order}HHII", tag, kind, 1, value)
            for tag, kind, value in tags
        )
        following = len(data) + size * (page + 1) if page + 1 < pages else 0
        entries.append(struct.pack(f"{order}H", len(tags)) + rows + struct.pack(f"{order}I", following))
    return data[:4] + struct.pack(f"{order}I", len(data)) + data[8:] + b"".join(entries)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("form", [3, 4])
def test_pages_of_a_tiff_are_counted_without_reading_their_tags(order: str, form: int) -> None:
    warnings: list[str] = []
    load_image(tiff(5, order, copies=(1, 3), form=form), warn=warnings.append)
    load_image(tiff(2, order, copies=(1,), form=form), warn=warnings.append)
    load_image(tiff(1200, order, form=form), warn=warnings.append)
    assert [warning.split(" pages")[0] for warning in warnings] == ["the file has 3", "the file has more than 1000"]
    assert np.array_equal(load_image(tiff(5, order), page=4, warn=warnings.append)[..., 0], GREY)
    with pytest.raises(ImageError, match="no page 5: it has 5"):
        load_image(tiff(5, order), page=5)


def test_many_tags_on_many_pages_take_no_long_time() -> None:
    """Pillow reads every tag of every page, which took 8 seconds."""
    data = tiff(900, extra=1000)
    start = time.process_time()
    warnings: list[str] = []
    load_image(data, warn=warnings.append)
    assert time.process_time() - start < 2
    assert len(warnings) == 1


def test_pages_that_lead_round_in_a_circle_end() -> None:
    data = bytearray(tiff(3))
    data[-4:] = data[4:8]
    warnings: list[str] = []
    load_image(bytes(data), warn=warnings.append)
    assert warnings == ["the file has 3 pages or frames, of which the first was read; page=1 reads the second"]


def test_bigtiff_pages() -> None:
    file = io.BytesIO()
    pages = [Image.fromarray(GREY), Image.fromarray(GREY[::-1]), Image.fromarray(GREY[:12])]
    pages[0].save(file, "TIFF", big_tiff=True, save_all=True, append_images=pages[1:])
    warnings: list[str] = []
    assert np.array_equal(load_image(file, warn=warnings.append)[..., 0], GREY)
    assert "has 3 pages" in warnings[0]
    assert np.array_equal(load_image(file, page=1)[..., 0], GREY[::-1])


def test_the_main_picture_of_a_heic_is_read_wherever_it_stands() -> None:
    """From a path the first was read, and from a Pillow image the main one."""
    pictures = [smooth(48, 64), smooth(48, 64)[::-1].copy(), smooth(32, 32)]
    heif = pillow_heif.from_pillow(Image.fromarray(pictures[0]))
    for picture in pictures[1:]:
        heif.add_from_pillow(Image.fromarray(picture))
    file = io.BytesIO()
    heif.save(file, quality=95, primary_index=1)
    warnings: list[str] = []
    main = load_image(file, warn=warnings.append)
    assert np.abs(main.astype(int) - pictures[1]).mean() < 3
    assert warnings == [
        "the file has 3 pages or frames, of which the main one, page 1, was read; page=0 reads the first"
    ]
    assert np.array_equal(main, load_image(pillow_heif.HeifImageFile(io.BytesIO(file.getvalue()))))
    for page, picture in enumerate(pictures):
        assert np.abs(load_image(file, page=page).astype(int) - picture).mean() < 3
