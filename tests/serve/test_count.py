"""``POST /v1/count``: the engine's own results, in each form."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import Asker

from engine import CrowdCounter
from engine.serve.answers import CountAnswer, ModelAnswer
from engine.zones.layout import ZoneLayout

ZONES = {
    "unit": "fractions",
    "zones": {"left": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]},
    "lines": {"door": [[0, 0.5], [1, 0.5]]},
}


def same(got: dict[str, object], expected: dict[str, object]) -> bool:
    """All fields but the times."""
    return got.keys() == expected.keys() and all(got[name] == expected[name] for name in got if name != "timings")


def test_the_answer_is_what_to_json_has(shared: Asker, counter: CrowdCounter, picture: bytes) -> None:
    expected = counter.count(picture)
    assert expected.count > 0
    reply = shared.count(picture)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert same(reply.json(), expected.to_dict())
    assert reply.json()["timings"].keys() == expected.timings.keys()
    CountAnswer.model_validate(reply.json())
    # A body without a kind, and curl's own, are pictures too.
    for kind in ("application/x-www-form-urlencoded", "image/jpeg", "nonsense"):
        assert same(shared("/v1/count", picture, Content_Type=kind).json(), expected.to_dict())


def test_forms_and_parameters(shared: Asker, counter: CrowdCounter, picture: bytes) -> None:
    layout = ZoneLayout.from_dict(ZONES)
    expected = counter.count(picture, zones=layout, steps=1, samples=2).to_dict()
    assert expected["zones"]["left"] not in (0, expected["count"])
    fields = [("zones", json.dumps(ZONES)), ("steps", "1"), ("samples", "2")]
    assert same(shared.form(picture, fields).json(), expected)
    # As on the command line, and in the address.
    shapes = [("zone", "left=0%,0% 50%,0% 50%,100% 0%,100%"), ("line", "door=0%,50% 100%,50%")]
    assert same(shared.form(picture, [*shapes, ("steps", "1"), ("samples", "2")]).json(), expected)
    # Nobody counts in a zone to ignore.
    right = ("ignore", "right=50%,0% 100%,0% 100%,100% 50%,100%")
    assert shared.form(picture, [right, ("steps", "1"), ("samples", "2")]).json()["count"] == expected["zones"]["left"]
    zone, line = "left=0%25,0%25+50%25,0%25+50%25,100%25+0%25,100%25", "door=0%25,50%25+100%25,50%25"
    assert same(shared.count(picture, f"?steps=1&samples=2&zone={zone}&line={line}").json(), expected)


def test_other_forms_of_the_answer(shared: Asker, counter: CrowdCounter, picture: bytes, tmp_path: Path) -> None:
    result = counter.count(picture)
    result.save(tmp_path / "points.csv")
    reply = shared.count(picture, Accept="text/csv")
    assert reply.headers["content-type"].startswith("text/csv")
    assert reply.body == (tmp_path / "points.csv").read_bytes()
    reply = shared.count(picture, Accept="text/html, image/png;q=0.9, */*;q=0.1")
    assert reply.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(reply.body))), np.asarray(result.plot()))
    assert shared.count(picture, Accept="text/html").status == 406


def test_maps_and_the_picture_for_the_page(shared: Asker, picture: bytes) -> None:
    answer = shared.count(picture, "?include=maps&include=picture").json()
    CountAnswer.model_validate(answer)
    width, height = answer["image_size"]
    for name in ("heat", "uncertainty"):
        image = Image.open(io.BytesIO(base64.b64decode(answer["maps"][name])))
        assert image.mode == "L"
        assert image.width / image.height == pytest.approx(width / height, rel=0.02)
        assert np.asarray(image).max() > 100
    heat = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["maps"]["heat"]))).resize((width, height)), float)
    heads = np.array(answer["points"]).astype(int)
    assert heat[heads[:, 1], heads[:, 0]].mean() > 5 * heat.mean()
    assert Image.open(io.BytesIO(base64.b64decode(answer["picture"]))).size == (width, height)


def test_turned_pictures_are_upright(shared: Asker, counter: CrowdCounter, picture: bytes) -> None:
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(io.BytesIO(picture)).save(turned, "JPEG", exif=exif, quality=95)
    answer = shared.count(turned.getvalue()).json()
    assert same(answer, counter.count(turned.getvalue()).to_dict())
    assert answer["image_size"] == [576, 768]


def test_the_model(shared: Asker, counter: CrowdCounter) -> None:
    answer = ModelAnswer.model_validate(shared("/v1/model").json())
    assert answer.counts
    assert not answer.edits_zones
    assert repr(counter) == f"<CrowdCounter {answer.model}: {answer.backend} on {answer.device}>"
    assert answer.max_bytes == 4 << 20


def test_the_document_describes_what_is_answered(shared: Asker) -> None:
    document = shared("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    operation = document["paths"]["/v1/count"]["post"]
    assert set(operation["requestBody"]["content"]) == {"image/*", "application/octet-stream", "multipart/form-data"}
    assert set(operation["responses"]["200"]["content"]) == {"application/json", "image/png", "text/csv"}
    assert {parameter["name"] for parameter in operation["parameters"]} == {
        "steps", "samples", "zones", "zone", "line", "ignore", "include",
    }  # fmt: skip
    errors = [
        answer
        for ways in document["paths"].values()
        for way in ways.values()
        for status, answer in way["responses"].items()
        if status[0] in "45"
    ]
    assert len(errors) > 10
    for answer in errors:
        assert list(answer["content"]) == ["application/problem+json"]
        assert {"detail", "kind"} <= set(answer["content"]["application/problem+json"]["schema"]["properties"])
    asked = [path for path, operations in document["paths"].items() if "get" in operations and "{" not in path]
    # There is no file of zones here.
    assert {path: shared(path).status for path in asked if "zone-file" not in path} == dict.fromkeys(
        ["/v1/model", "/healthz", "/readyz", "/metrics", "/v1/streams"], 200
    )
    assert set(document["components"]["schemas"]["CountAnswer"]["properties"]) == set(CountAnswer.model_fields)


def test_metrics(shared: Asker, picture: bytes) -> None:
    def read() -> dict[str, float]:
        lines = [line for line in shared("/metrics").body.decode().splitlines() if not line.startswith("#")]
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}

    count = shared.count(picture).json()["count"]
    shared.count(b"no picture")
    before = read()
    shared.count(picture)
    shared.count(b"no picture")
    after = read()
    assert after["crowd_counts_total"] - before["crowd_counts_total"] == 1
    assert after["crowd_people_total"] - before["crowd_people_total"] == count
    assert after['crowd_errors_total{kind="ImageError"}'] - before['crowd_errors_total{kind="ImageError"}'] == 1
    for stage in ("wait", "decode", "encode", "denoise", "peaks", "answer", "request"):
        name = f'crowd_stage_seconds_count{{stage="{stage}"}}'
        assert after[name] - before[name] == 1, stage
    assert after["crowd_waiting_requests"] == after["crowd_running_counts"] == 0
    assert any(name.startswith("crowd_model_info{") and 'backend="openvino"' in name for name in after)
