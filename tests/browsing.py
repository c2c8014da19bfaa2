"""What a user does on the page, for the tests in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving import PICTURE, until

from engine import CountResult

if TYPE_CHECKING:
    from playwright.sync_api import Page

QUAD = ((0.1, 0.2), (0.5, 0.15), (0.55, 0.8), (0.08, 0.9))


def count_of(page: Page) -> int:
    """The number that the page shows, once it does."""
    page.wait_for_selector("#count:not(.nothing)")
    return int(page.locator("#count").evaluate("node => node.dataset.shown.replace(/,/g, '')"))


def load(page: Page, picture: Path = PICTURE) -> int:
    page.wait_for_selector("body[data-ready]")
    page.set_input_files("#file", picture)
    return count_of(page)


def wait(page: Page, condition: str) -> None:
    """Until a JavaScript expression is true; Playwright's own way needs eval(), which the page's policy forbids."""
    until(lambda: bool(page.evaluate(f"() => Boolean({condition})")), 60)


def at(page: Page, x: float, y: float) -> tuple[float, float]:
    """A place on the picture, in fractions of it, as one of the window."""
    box = page.locator("#drawing").bounding_box()
    assert box is not None
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def draw(page: Page, kind: str, places: Any) -> None:
    page.click(f"#draw-{kind}")
    for place in places:
        page.mouse.click(*at(page, *place))
    if kind == "zone":
        page.keyboard.press("Enter")


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*at(page, *start))
    page.mouse.down()
    page.mouse.move(*at(page, *end), steps=5)
    page.mouse.up()


def rows(page: Page) -> list[str]:
    """What the list says of each zone and line."""
    return [text.strip() for text in page.locator("#shapes .people").all_inner_texts()]


def expected_rows(result: CountResult) -> list[str]:
    def zone(name: str, people: int) -> str:
        low, high = result.zone_intervals[name]
        return f"{people} {'person' if people == 1 else 'people'} {low} to {high}"

    zones = [zone(name, people) for name, people in result.zones.items()]
    return zones + [f"{left} left {right} right" for left, right in result.lines.values()]


def download(page: Page, button: str, folder: Path) -> Path:
    with page.expect_download() as info:
        page.click(button)
    path = folder / info.value.suggested_filename
    info.value.save_as(path)
    return path
