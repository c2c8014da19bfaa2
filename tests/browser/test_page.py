"""What a user does on the page, and that its numbers are the engine's."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from browsing import QUAD, count_of, download, drag, draw, expected_rows, load, rows, wait
from PIL import Image
from serving import PICTURE

from engine import CountResult, CrowdCounter
from engine.zones.inputs import load_layout

if TYPE_CHECKING:
    pass

VECTORS = Path(__file__).parents[1] / "zones" / "member_vectors.json"


def test_drop_draw_drag_download_and_load(
    serve: Any, open_page: Any, counter: CrowdCounter, result: CountResult, tmp_path: Path
) -> None:
    page = open_page(serve(counter).url)
    page.wait_for_selector("body[data-ready]")
    drop = """data => {
      const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], "street.jpg", { type: "image/jpeg" }));
      document.getElementById("stage").dispatchEvent(
        new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(drop, base64.b64encode(PICTURE.read_bytes()).decode())
    assert count_of(page) == result.count
    assert page.inner_text("#interval") == f"between {result.interval[0]} and {result.interval[1]}"
    draw(page, "zone", QUAD)
    page.click("#draw-zone")
    drag(page, (0.62, 0.25), (0.9, 0.7))
    draw(page, "line", ((0.3, 0.95), (0.95, 0.2)))
    before = rows(page)
    counted = counter.count(PICTURE, zones=load_layout(download(page, "#download-zones", tmp_path)))
    assert before == expected_rows(counted)
    # Drag the first zone's corner over others.
    page.locator("#shapes li").first.click()
    drag(page, QUAD[1], (0.75, 0.1))
    zones = download(page, "#download-zones", tmp_path)
    counted = counter.count(PICTURE, zones=load_layout(zones))
    assert rows(page) == expected_rows(counted) != before
    assert counted.zones["zone 1"] > 0
    label = f"zone 1: {counted.zones['zone 1']}"
    wait(page, f"document.querySelector('#drawing text').textContent === {label!r}")
    after = rows(page)
    # And the same again on a fresh page.
    page.reload()
    load(page)
    # LabelMe's file has no zones of ours, and is not taken for one without any.
    other = tmp_path / "labelme.json"
    other.write_text('{"shapes": [], "imagePath": "photo.jpg"}')
    page.set_input_files("#zones-input", other)
    wait(page, "document.querySelector('#error').textContent.includes('labelme.json cannot be read')")
    page.set_input_files("#zones-input", zones)
    page.wait_for_selector("#shapes li")
    assert rows(page) == after
    # The engine's own files, with these zones.
    answer = json.loads(download(page, "#download-json", tmp_path).read_text())
    assert answer["zones"] == counted.zones
    assert download(page, "#download-csv", tmp_path).read_text().startswith("x,y,score\n")
    picture = Image.open(download(page, "#download-png", tmp_path))
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(counted.plot()))


def test_a_file_that_is_no_picture_is_said_to_be_none(
    serve: Any, open_page: Any, counter: CrowdCounter, result: CountResult, tmp_path: Path
) -> None:
    open_page.forgive = "422"
    page = open_page(serve(counter).url)
    assert load(page) == result.count
    fake = tmp_path / "fake.jpg"
    fake.write_text("hello")
    page.set_input_files("#file", fake)
    wait(page, "!document.querySelector('#error').hidden")
    assert page.inner_text("#interval") == "not counted"
    # The picture before is not taken for this one.
    assert not page.is_visible("#paper")
    assert page.is_visible("#welcome")
    assert page.is_disabled("#draw-zone")
    assert load(page) == result.count
    assert page.is_enabled("#draw-zone")


def test_names_undo_and_zones_to_ignore(
    serve: Any, open_page: Any, counter: CrowdCounter, result: CountResult, tmp_path: Path
) -> None:
    page = open_page(serve(counter).url)
    load(page)
    draw(page, "zone", QUAD)
    name = page.locator("#shapes input")
    name.fill("total")
    assert name.evaluate("node => node.validationMessage") == "“total” stands for the whole picture"
    name.fill("Eingang <Süd>")
    # The picture is drawn at the next frame.
    wait(page, "document.querySelector('#drawing text').textContent.startsWith('Eingang <Süd>: ')")
    page.click("#shapes .acts button:first-child")
    counted = counter.count(PICTURE, zones=load_layout(download(page, "#download-zones", tmp_path)))
    assert count_of(page) == counted.count < result.count
    assert page.inner_text("#interval") == f"between {counted.interval[0]} and {counted.interval[1]}"
    page.keyboard.press("Control+z")
    assert count_of(page) == result.count
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    assert rows(page) == []
    for _ in range(3):
        page.click("#redo")
    assert count_of(page) == counted.count


def test_drawing_by_keyboard_alone(
    serve: Any, open_page: Any, counter: CrowdCounter, result: CountResult, tmp_path: Path
) -> None:
    page = open_page(serve(counter).url)
    load(page)
    press = page.keyboard.press
    press("z")
    # From the middle, a square up and to the left.
    for key, times in (("", 0), ("ArrowLeft", 40), ("ArrowUp", 30), ("ArrowRight", 40)):
        for _ in range(times):
            press(key)
        press("Space")
    press("Enter")
    layout = load_layout(download(page, "#download-zones", tmp_path))
    (corners,) = layout.zone_corners(result.image_size).values()
    width, height = result.image_size
    # A stride is a hundredth of the longer side, in whole pixels.
    step = round(width / 100)
    left, top = width / 2 - 40 * step, height / 2 - 30 * step
    square = [(width / 2, height / 2), (left, height / 2), (left, top), (width / 2, top)]
    np.testing.assert_allclose(corners, np.clip(square, 0, None), atol=0.05)
    assert rows(page) == expected_rows(counter.count(PICTURE, zones=layout))
    # Tab reaches its corners, arrows move them, Insert and Delete add and remove.
    page.locator("#drawing .corner").first.focus()
    press("Tab")
    press("Shift+ArrowDown")
    moved = load_layout(download(page, "#download-zones", tmp_path)).zone_corners(result.image_size)["zone 1"]
    np.testing.assert_allclose(moved[1] - corners[1], [0, 1], atol=0.01)
    page.locator("#drawing .corner").nth(1).focus()
    press("Insert")
    wait(page, "document.querySelectorAll('#drawing .corner').length === 5")
    press("Delete")
    wait(page, "document.querySelectorAll('#drawing .corner').length === 4")
    assert page.evaluate("document.activeElement.dataset.corner") == "1"


def test_layers_are_drawn(serve: Any, open_page: Any, counter: CrowdCounter, result: CountResult) -> None:
    page = open_page(serve(counter).url)
    load(page)
    heads = "(document.querySelectorAll('#drawing .dots')[1]?.getAttribute('d') ?? '').split('M').length - 1"
    wait(page, f"{heads} === {result.count}")
    page.uncheck("#show-heads")
    wait(page, "document.querySelectorAll('#drawing .dots').length === 0")
    sums = []
    for layer in ("heat", "uncertainty"):
        page.check(f"#show-{layer}")
        opacity = "() => { const c = document.getElementById('heat'); return Array.from(c.getContext('2d')"
        opacity += (
            ".getImageData(0, 0, c.width, c.height).data).filter((_, i) => i % 4 === 3).reduce((a, b) => a + b) }"
        )
        sums.append(page.evaluate(opacity))
    assert min(sums) > 0
    assert sums[0] != sums[1]
    assert not page.is_checked("#show-heat")
    page.uncheck("#show-uncertainty")
    assert page.is_hidden("#heat")


def test_the_vectors(serve: Any, open_page: Any) -> None:
    page = open_page(serve(None).url)
    vectors = json.loads(VECTORS.read_text())
    script = """async vectors => {
      const { countSides, exactPoints, leaveOut, membersOf, zoneInterval } = await import("./page/members.js");
      return {
        zones: vectors.zones.map(v => membersOf(exactPoints(v.points), v.corners, v.size).map(Number)),
        lines: vectors.lines.map(v => countSides(exactPoints(v.points), v.ends)),
        ignored: vectors.ignored.map(v => leaveOut(exactPoints(v.points), v.interval, v.ignored, v.size).count),
        intervals: vectors.intervals.map(v => zoneInterval(v.people, v.count, v.interval)),
      };
    }"""
    assert page.evaluate(script, vectors) == {
        "zones": [vector["inside"] for vector in vectors["zones"]],
        "lines": [vector["sides"] for vector in vectors["lines"]],
        "ignored": [vector["kept"] for vector in vectors["ignored"]],
        "intervals": [vector["expected"] for vector in vectors["intervals"]],
    }
