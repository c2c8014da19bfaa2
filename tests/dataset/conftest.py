"""Pictures to annotate."""

from __future__ import annotations

from pathlib import Path

import pytest
from annotation_files import SIZE
from PIL import Image


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with two pictures of 200 x 100 pixels in it."""
    for name in ("1.jpg", "2.jpg"):
        Image.new("RGB", SIZE).save(tmp_path / name)
    return tmp_path
