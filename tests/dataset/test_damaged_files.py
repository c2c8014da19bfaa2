"""Damaged annotations of every format."""

from __future__ import annotations

import json

import numpy as np
import pytest
from annotation_files import SIZE, box, coco, cvat, labelme, task
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.dataset.samples import find_samples
from engine.errors import ConfigError


def test_a_packed_export_is_to_be_unpacked(data):
    (data / "export.zip").write_bytes(b"PK\3\4")
    with pytest.raises(ConfigError, match=r"export\.zip has no annotations .*; unpack it first"):
        find_samples(data / "export.zip")


VALID = {
    "points.csv": "image,x,y\n1.jpg,10.5,20\n2.jpg,5,6\n",
    "points.json": '{"1.jpg": [[10.5, 20]], "2.jpg": []}',
    "a.json": json.dumps(coco({"bbox": [10, 20, 30, 40]}, {"keypoints": [1, 2, 2]})),
    "1.json": json.dumps(labelme({}, {"shape_type": "rectangle", "points": [[1, 2], [3, 4]]})),
    "tasks.json": json.dumps([task({}, box(x=1, y=2, width=3, height=4, rotation=5))]),
    "annotations.xml": cvat(
        '<points label="head" points="10.5,20;30,40"/>', '<box label="a" xtl="0" ytl="1" xbr="2" ybr="3"/>'
    ),
    "labels/1.txt": "0 0.5 0.5 0.1 0.2\n1 0.1 0.1 0.2 0.1 0.2 0.3\n",
    "data.yaml": "names: [a, b]\n",
}


PIECES = st.sampled_from(
    [b"\0", b"\xff", b"\xfe\xff", b"9e999", b"-1", b"NaN", b"{}", b"[]", b'"', b"<", b"&x;", b",", b";", b"\n"]
)


@pytest.mark.parametrize("name", VALID)
def test_damaged_files_are_read_or_refused(name, data, tmp_path_factory):
    """Nothing but our own error comes of any file."""
    valid = VALID[name].encode()

    @given(
        start=st.integers(0, len(valid)),
        length=st.integers(0, 20),
        pieces=st.lists(PIECES | st.binary(max_size=6), max_size=4),
    )
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def read_or_refused(start, length, pieces) -> None:
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_bytes(valid[:start] + b"".join(pieces) + valid[start + length :])
        try:
            samples = find_samples(data)
        except ConfigError:
            return
        for sample in samples:
            assert np.isfinite(sample.points).all()
            assert (np.abs(sample.points) <= 1.1 * max(SIZE)).all()

    read_or_refused()
