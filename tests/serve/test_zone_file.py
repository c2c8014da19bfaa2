"""The file that ``crowd zones`` edits."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.errors import ConfigError
from engine.serve.zone_file import ZoneFile
from engine.zones.inputs import load_layout
from engine.zones.layout import ZoneLayout

PIXELS = np.zeros((6, 8, 3), np.uint8)
LAYOUT = {"unit": "fractions", "zones": {"gate": [[0, 0], [1, 0], [1, 1]]}, "alerts": {"gate": {"high": 5}}}


def test_it_is_loaded_and_saved(serve: Any, tmp_path: Path, picture: bytes) -> None:
    saved: list[ZoneLayout] = []
    path = tmp_path / "zones.json"
    ask = serve(None, zone_file=ZoneFile(path, "photo.jpg", PIXELS, picture, saved.append))
    assert ask("/v1/model").json()["edits_zones"]
    assert ask("/v1/zone-file").json() == {"name": "zones.json", "title": "photo.jpg", "layout": None}
    reply = ask("/v1/zone-file/picture")
    assert (reply.headers["content-type"], reply.body) == ("image/jpeg", picture)
    reply = ask("/v1/zone-file", json.dumps(LAYOUT).encode(), method="PUT")
    assert (reply.status, reply.json()) == (200, {"zones": 1, "lines": 0})
    assert load_layout(path) == saved[0] == ZoneLayout.from_dict(LAYOUT)
    assert ask("/v1/zone-file").json()["layout"] == LAYOUT
    for bad in (b"", b"[]", b'{"zones": {"a": [[0, 0]]}}', b'{"alerts": {"a": {"high": 1}}}'):
        assert ask("/v1/zone-file", bad, method="PUT").status == 400
    assert ask("/v1/zone-file", b" " * ((1 << 20) + 1), method="PUT").status == 413
    assert ask("/v1/zone-file", json.dumps(LAYOUT).encode(), method="PUT", Origin="http://evil.example").status == 403
    assert ask("/v1/zone-file").json()["layout"] == LAYOUT
    assert len(saved) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_browser_does_not_show_is_a_png(tmp_path: Path) -> None:
    tiff = io.BytesIO()
    Image.fromarray(PIXELS + 7).save(tiff, "TIFF")
    for data in (tiff.getvalue(), None):
        file = ZoneFile(tmp_path / "zones.json", "a", PIXELS + 7, data)
        assert file.kind == "image/png"
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file.picture))), PIXELS + 7)


def test_files_that_are_none(serve: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the folder .* does not exist"):
        ZoneFile(tmp_path / "none" / "zones.json", "a", PIXELS)
    (tmp_path / "zones.json").write_text("no zones")
    with pytest.raises(ConfigError, match="not JSON"):
        ZoneFile(tmp_path / "zones.json", "a", PIXELS)
    assert serve(None)("/v1/zone-file").status == 404


SHAPE = {"label": "gate", "points": [[0, 0], [8, 6]], "shape_type": "rectangle"}
LABELME = {"shapes": [SHAPE], "imagePath": "photo.jpg", "imageWidth": 8, "imageHeight": 6}


def test_an_annotation_tools_file_is_not_saved(serve: Any, tmp_path: Path) -> None:
    """It could not be opened again."""
    path = tmp_path / "zones.json"
    ask = serve(None, zone_file=ZoneFile(path, "photo.jpg", PIXELS))
    for data in (LABELME, {"images": [], "annotations": []}):
        reply = ask("/v1/zone-file", json.dumps(data).encode(), method="PUT")
        assert (reply.status, reply.json()["kind"]) == (400, "ConfigError")
        assert "annotation tool's file" in reply.json()["detail"]
    assert not path.exists()
    assert ask("/v1/zone-file").json()["layout"] is None


def test_an_annotation_tools_file_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "photo.json"
    path.write_text(json.dumps(LABELME))
    assert list(load_layout(path).zones) == ["gate"]
    with pytest.raises(ConfigError, match=r"annotation tool's file.*--out"):
        ZoneFile(path, "a", PIXELS)


def test_a_file_that_changes_or_cannot_be_written(serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "zones.json"
    ask = serve(None, zone_file=ZoneFile(path, "photo.jpg", PIXELS))
    path.write_text("no zones")
    reply = ask("/v1/zone-file")
    assert (reply.status, reply.json()["kind"]) == (400, "ConfigError")
    assert "zones.json is not JSON" in reply.json()["detail"]
    assert ask("/v1/zone-file", json.dumps(LAYOUT).encode(), method="PUT").status == 200

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.serve.zone_file.write_whole", full)
    reply = ask("/v1/zone-file", b"{}", method="PUT")
    assert (reply.status, reply.json()["detail"]) == (500, "cannot write zones.json: No space left on device")
    assert ask("/v1/zone-file").json()["layout"] == LAYOUT
