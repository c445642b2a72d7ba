"""The gateway's pages in a real browser."""

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

from tests.conftest import leave_out

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


@contextlib.contextmanager
def opened(url: str, *flags: str) -> Iterator[Any]:
    """Open a page. Fail if one of its scripts raises an error while it is open."""
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser")
    if not browser_path:
        leave_out("no Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=[*FLAGS, *flags])
        page = browser.new_page(viewport={"width": 1100, "height": 1000})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(url)
        try:
            yield page
        finally:
            browser.close()
    assert not problems


def shows(page: Any, selector: str, text: str) -> None:
    """Wait until an element shows a text."""
    page.locator(selector).filter(has_text=text).wait_for(timeout=60_000)
