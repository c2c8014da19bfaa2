"""Files of several pages or frames."""

from __future__ import annotations

from PIL import ExifTags, Image

from engine.errors import ImageError
from engine.image.pixels import Warn

# Pages are looked for up to here: a hostile animation may have millions.
_MOST_COUNTED = 1000


def turn_to(image: Image.Image, page: int, name: str, warn: Warn) -> None:
    """Seek the page or frame ``page``, from 0, of an image that is at its first one.

    ``warn`` is told of pages beyond the first, if that is the one that is asked for.

    Raises:
        ImageError: there is no such page.
    """
    if page:
        try:
            image.seek(page)
        except EOFError as error:
            pages, _ = _count_pages(image)
            raise ImageError(f"{name} has no page {page}: it has {pages}, numbered from 0") from error
        return
    if not getattr(image, "is_animated", False):
        return
    pages, is_all = _count_pages(image)
    image.seek(0)
    if pages > 1:
        number = str(pages) if is_all else f"more than {pages}"
        warn(f"the file has {number} pages or frames, of which the first was read; page=1 reads the second")


def _count_pages(image: Image.Image) -> tuple[int, bool]:
    """How many pages there are, up to a limit, and whether these are all; smaller copies of a page are none."""
    if image.format not in ("TIFF", "GIF"):
        # Their headers tell.
        return int(getattr(image, "n_frames", 1)), True
    pages = 0
    for number in range(_MOST_COUNTED + 1):
        try:
            image.seek(number)
        except EOFError:
            return pages, True
        if number == _MOST_COUNTED:
            break
        pages += not _is_copy(image)
    return pages, False


def _is_copy(image: Image.Image) -> bool:
    """Whether a page of a TIFF file says that it is a reduced version of another, such as a thumbnail."""
    tags = getattr(image, "tag_v2", {})
    return bool(int(tags.get(ExifTags.Base.NewSubfileType, 0)) & 1)
