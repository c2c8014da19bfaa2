"""The page on other devices, with other sources, and before others' eyes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from browsing import QUAD, at, count_of, download, draw, expected_rows, load, rows, wait
from PIL import Image
from serving import PICTURE

from engine import CountResult, CrowdCounter
from engine.serve.settings import ServeSettings
from engine.serve.streams import StreamRegistry
from engine.serve.zone_file import ZoneFile
from engine.zones.inputs import load_layout


def test_pictures_that_the_browser_cannot_show(
    serve: Any, open_page: Any, counter: CrowdCounter, result: CountResult, tmp_path: Path
) -> None:
    Image.open(PICTURE).save(tmp_path / "street.tiff")
    page = open_page(serve(counter).url)
    assert load(page, tmp_path / "street.tiff") == result.count
    assert page.locator("#picture").evaluate("node => node.naturalWidth") == result.image_size[0]
    (tmp_path / "broken.jpg").write_bytes(PICTURE.read_bytes()[:5000])
    open_page.forgive = "422"
    page.set_input_files("#file", tmp_path / "broken.jpg")
    page.wait_for_selector("#error:not([hidden])")
    assert "damaged or cut short" in page.inner_text("#error")


def test_the_camera(serve: Any, open_page: Any, counter: CrowdCounter) -> None:
    page = open_page(serve(counter).url.replace("127.0.0.1", "localhost"), permissions=["camera"])
    page.wait_for_selector("body[data-ready]")
    page.click("#camera")
    wait(page, "document.getElementById('video').videoWidth > 0")
    page.click("#take")
    count_of(page)
    assert page.locator("#picture").evaluate("node => node.naturalWidth") > 100
    assert page.locator("#video").evaluate("node => node.srcObject") is None


def test_a_phone(serve: Any, open_page: Any, counter: CrowdCounter, tmp_path: Path) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
    page = open_page(serve(counter).url, **phone)
    load(page)
    page.tap("#draw-zone")
    for place in QUAD:
        page.touchscreen.tap(*at(page, *place))
    page.tap("#done")
    counted = counter.count(PICTURE, zones=load_layout(download(page, "#download-zones", tmp_path)))
    assert rows(page) == expected_rows(counted)
    # Nothing is wider than the screen; the count is on the first one.
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.evaluate("window.scrollTo(0, 0)")
    assert page.locator("#count").bounding_box()["y"] < 844


def test_light_and_dark(serve: Any, open_page: Any) -> None:
    url = serve(None).url
    grounds = []
    for scheme in ("light", "dark"):
        page = open_page(url, color_scheme=scheme)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        grounds.append(sum(int(part) for part in ground.removeprefix("rgb(").removesuffix(")").split(",")))
    assert grounds[0] > 600
    assert grounds[1] < 120


def test_signing_in(serve: Any, open_page: Any, counter: CrowdCounter) -> None:
    token = "a token of enough letters"
    ask = serve(counter, ServeSettings(host="0.0.0.0", port=0, token=token))
    page = open_page(f"http://127.0.0.1:{ask.port}/")
    assert page.url.endswith("/signin")
    for text in ("wrong", token):
        page.fill("input[name=token]", text)
        page.click("button")
        if text == "wrong":
            page.wait_for_selector("#wrong", state="visible")
    load(page)
    assert token not in page.evaluate("document.cookie")


def test_running_streams(serve: Any, open_page: Any, result: CountResult) -> None:
    streams = StreamRegistry()
    stream = streams.add("gate", "Gate <north>")
    page = open_page(serve(None, streams=streams).url)
    page.wait_for_selector("body[data-ready]")
    status = {**result.to_dict(), "alerts": ["left"], "zones": {"left": 4}}
    stream.publish(lambda: np.asarray(result.plot()), status, result._image)
    wait(page, f"document.querySelector('.stream .number')?.textContent.startsWith('{result.count} people')")
    assert page.inner_text(".stream h3") == "Gate <north>"
    assert page.inner_text(".stream .alert") == "Alert: left"
    assert page.inner_text(".stream li") == "left: 4"
    wait(page, "document.querySelector('.stream img').naturalWidth === 768")
    page.click(".stream button")
    assert count_of(page) == result.count
    draw(page, "zone", QUAD)
    assert rows(page)[0].split()[0] != "0"
    # The newest frame of a lost camera still has its numbers.
    stream.report({"state": "it was lost"})
    page.click("#tab-live")
    wait(page, "document.querySelector('.stream .number')?.textContent.startsWith('not counted now')")
    page.click(".stream button")
    assert count_of(page) == result.count
    assert page.is_hidden("#error")


def test_more_streams_than_a_browser_has_connections(serve: Any, open_page: Any, result: CountResult) -> None:
    streams = StreamRegistry()
    cameras = [streams.add(f"camera-{number}") for number in range(8)]
    page = open_page(serve(None, streams=streams).url)
    page.wait_for_selector("body[data-ready]")
    for width in (64, 96):
        for people, camera in enumerate(cameras):
            picture = np.zeros((48, width, 3), np.uint8)
            camera.publish(lambda picture=picture: picture, {"count": people, "interval": [0, 9]})
        wait(
            page, f"[...document.querySelectorAll('.stream img')].filter(x => x.naturalWidth === {width}).length === 8"
        )
    texts = page.eval_on_selector_all(".stream .number", "found => found.map(x => x.firstChild.textContent)")
    assert texts == ["0 people", "1 person", *(f"{people} people" for people in range(2, 8))]
    # One that has no frame yet, and then no others, is shown moving.
    for camera in cameras[2:]:
        camera.close()
    wait(page, "document.querySelectorAll('.stream').length === 2")
    wait(page, "document.querySelector('.stream img').src.endsWith('/live.mjpg')")
    cameras[0].publish(lambda: np.zeros((48, 80, 3), np.uint8), {"count": 3, "interval": [0, 9]})
    wait(page, "document.querySelector('.stream img').naturalWidth === 80")


def test_a_stream_with_too_many_viewers_is_shown_frame_by_frame(serve: Any, open_page: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("engine.serve.live_routes._MOST_VIEWERS", 0)
    streams = StreamRegistry()
    camera = streams.add("gate")
    open_page.forgive = "503"
    page = open_page(serve(None, streams=streams).url)
    page.wait_for_selector("body[data-ready]")
    for width in (64, 96):
        picture = np.zeros((48, width, 3), np.uint8)
        camera.publish(lambda picture=picture: picture, {"count": 1, "interval": [0, 9]})
        wait(page, f"document.querySelector('.stream img')?.naturalWidth === {width}")


def test_the_file_of_crowd_zones(serve: Any, open_page: Any, counter: CrowdCounter, tmp_path: Path) -> None:
    path = tmp_path / "gate.json"
    pixels = np.asarray(Image.open(PICTURE))
    layout = {
        "zones": {"old": [[0, 0], [90, 0], [90, 90]]},
        "alerts": {"old": {"high": 5, "low": 2}, "total": {"high": 9}},
    }
    path.write_text(json.dumps(layout))
    page = open_page(serve(counter, zone_file=ZoneFile(path, "a.jpg", pixels, PICTURE.read_bytes())).url)
    count_of(page)
    draw(page, "zone", QUAD)
    page.locator("#shapes input").last.fill("new")
    page.click("#save-file")
    wait(page, "document.getElementById('hint').textContent === 'gate.json is saved.'")
    saved = load_layout(path)
    assert list(saved.zones) == ["old", "new"]
    # What the page does not show is kept.
    assert json.loads(path.read_text())["alerts"] == layout["alerts"]
    np.testing.assert_array_equal(saved.zone_corners((768, 576))["old"], layout["zones"]["old"])
    assert rows(page) == expected_rows(counter.count(PICTURE, zones=saved))


def test_the_docs_page(serve: Any, open_page: Any) -> None:
    page = open_page(serve(None).url)
    page.click("header a[href=docs]")
    page.wait_for_selector("#operations h3")
    assert "POST/v1/count" in page.inner_text("#operations").replace("\n", "").replace(" ", "")


def test_the_docs_page_on_a_phone(serve: Any, open_page: Any) -> None:
    page = open_page(serve(None).url, viewport={"width": 390, "height": 844})
    page.click("header a[href=docs]")
    page.wait_for_selector("#operations h3")
    brand, kind = page.locator(".brand").bounding_box(), page.locator("td", has_text="integer").first.bounding_box()
    assert brand["x"] < 20, "as on the other pages"
    assert kind["height"] < 40, "a word is on one line"
    assert page.evaluate("document.documentElement.scrollWidth") == 390
