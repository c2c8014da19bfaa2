"""What a user does on the page, for the tests in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from serving import PICTURE, until

if TYPE_CHECKING:
    from playwright.sync_api import Page


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
