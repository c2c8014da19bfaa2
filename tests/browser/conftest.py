"""The page in a real browser; collected only where there is a Chromium and the extra ``browser``."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from serving import PICTURE, started_servers

from engine import CountResult, CrowdCounter

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None or importlib.util.find_spec("playwright") is None:
    collect_ignore_glob = ["test_*.py"]

Open = Callable[..., "Page"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    # Root, as in containers, has no sandbox; the camera shows a pattern.
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *camera])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def counter() -> Iterator[CrowdCounter]:
    with CrowdCounter(performance="throughput", cpu_threads=2) as counter:
        yield counter


@pytest.fixture(scope="session")
def result(counter: CrowdCounter) -> CountResult:
    return counter.count(PICTURE)


serve = pytest.fixture(started_servers, name="serve")


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens an address; at the end of the test, no error was in the console and nothing came from elsewhere."""
    contexts: list[Any] = []
    problems: list[str] = []

    def launch(url: str, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: message.type == "error" and problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda request: request.url.startswith((url, "blob:", "data:")) or problems.append(request.url),
        )
        page.goto(url)
        return page

    # What a test expects in the console.
    launch.forgive = ""  # type: ignore[attr-defined]
    yield launch
    for context in contexts:
        context.close()
    forgiven = launch.forgive  # type: ignore[attr-defined]
    assert [problem for problem in problems if not forgiven or forgiven not in problem] == []
