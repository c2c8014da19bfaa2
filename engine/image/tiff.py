"""TIFF files that Pillow would read wrongly, without a word."""

from __future__ import annotations

from typing import Any

from PIL import ExifTags, Image, TiffImagePlugin

from engine.errors import ImageError

_CHANNELS_APART = 2
# Bits of a channel, and which number is black or a colour, that Pillow tells by one letter: of channels that lie apart
# it takes a letter each of a name such as RGB;16B, and so reads 16 bits as 8, and a negative as a positive.
_BY_LETTER = {(8, 1), (8, 2), (8, 3), (8, 5), (1, 1)}
# Decoders of compressed files give numbers in the machine's own order, in which Pillow reads these two kinds only if
# they have few bits: its names of big-endian numbers, and of the machine's own.
_OWN_ORDER = {"F;32BF": "F;32NF", "I;32BS": "I;32NS", "I;16BS": "I;16NS"}


class TiffFile(TiffImagePlugin.TiffImageFile):
    """A TIFF that is read whatever ``Image.MAX_IMAGE_PIXELS`` says: our own limits have been asked before."""

    def load_prepare(self) -> None:
        """Make the memory for the pixels, which Pillow otherwise does after it has looked at its limit."""
        if self._im is None:
            self.im = Image.core.new(self.mode, self._tile_size)  # type: ignore[attr-defined]
        super().load_prepare()


def prepare_tiff(image: Image.Image, name: str) -> None:
    """Have a TIFF image read as it is stored, before it is loaded; others are left alone.

    Raises:
        ImageError: it is of a kind that Pillow reads as another picture.
    """
    if image.format != "TIFF":
        return
    tags = image.tag_v2  # type: ignore[attr-defined]
    if channels_lie_apart(image) and image.info.get("compression") == "raw":
        bits = set(tags.get(ExifTags.Base.BitsPerSample, (1,)))
        kinds = {(bit, tags.get(ExifTags.Base.PhotometricInterpretation)) for bit in bits}
        if not kinds <= _BY_LETTER or tags.get(ExifTags.Base.FillOrder, 1) != 1:
            raise ImageError(
                f"{name} is a TIFF whose channels lie apart (PlanarConfiguration 2) with {max(bits)} bits each, which "
                "is not read; save it with PlanarConfiguration 1, or convert it to RGB of 8 bits"
            )
    if tiles := getattr(image, "tile", None):
        image.tile = [_in_own_order(tile) for tile in tiles]  # type: ignore[attr-defined]


def channels_lie_apart(image: Image.Image) -> bool:
    """Whether each channel of a TIFF image is stored by itself."""
    return bool(getattr(image, "tag_v2", {}).get(ExifTags.Base.PlanarConfiguration) == _CHANNELS_APART)


def _in_own_order(tile: Any) -> Any:
    if tile.codec_name != "libtiff" or tile.args[0] not in _OWN_ORDER:
        return tile
    return tile._replace(args=(_OWN_ORDER[tile.args[0]], *tile.args[1:]))
