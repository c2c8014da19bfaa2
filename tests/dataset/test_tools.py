"""The formats of the tools that people annotate with, as their own libraries write and read them."""

from __future__ import annotations

import shutil
from pathlib import Path

import annotation_tools as tools
import numpy as np
import pytest

from engine.dataset.samples import find_samples


def check_heads(samples, within: float = 0.02) -> None:
    """The heads are those that were written; libraries round to hundredths of a pixel, or of a percent."""
    assert {s.image.name for s in samples} == set(tools.SIZES)
    for sample in samples:
        np.testing.assert_allclose(
            sample.points, np.reshape(tools.HEADS[sample.image.name], (-1, 2)), atol=within, err_msg=sample.image.name
        )


def place_pictures(folder: Path, name: str) -> None:
    """Pictures where people have them beside such annotations."""
    tools.make_pictures(folder / {"supervision_yolo": "images", "datumaro_yolo": "obj_train_data"}.get(name, "."))


WRITERS = pytest.mark.parametrize("writer", tools.WRITERS, ids=lambda writer: writer.__name__)


@WRITERS
def test_what_the_libraries_wrote_is_read(writer, tmp_path):
    shutil.copytree(tools.WRITTEN / writer.__name__, tmp_path / "data")
    place_pictures(tmp_path / "data", writer.__name__)
    check_heads(find_samples(tmp_path / "data"))


@WRITERS
def test_what_the_libraries_write_is_read(writer, tmp_path):
    library = tools.WRITERS[writer]
    pytest.importorskip(
        library, reason=f"{library} comes with the formats extra; what it wrote is kept, and read above"
    )
    (tmp_path / "data").mkdir()
    writer(tmp_path / "data", tmp_path / "scratch")
    place_pictures(tmp_path / "data", writer.__name__)
    check_heads(find_samples(tmp_path / "data"))
