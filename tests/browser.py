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


def faults(line: Any, url: str) -> list[str]:
    """Return a line of the console if it is an error of our page.

    The browser also reports replies that the page's scripts handle, and what a foreign page may not
    do.
    """
    is_ours = line.type == "error" and "Failed to load resource" not in line.text
    return [line.text] if is_ours and url.startswith("http") else []


_STILL = """() => Promise.all(document.getAnimations()
    .filter((one) => one.effect.getComputedTiming().endTime !== Infinity)
    .map((one) => one.finished.catch(() => {})))"""


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
        page.on("console", lambda line: problems.extend(faults(line, url)))
        page.goto(url)
        try:
            yield page
        finally:
            browser.close()
    assert not problems


def has_no_faults(page: Any) -> None:
    """Check a page, as it is now, with axe-core: contrast, names, roles, order of headings."""
    from axe_playwright_python.sync_playwright import Axe

    # Colours are measured while nothing moves.
    page.evaluate(_STILL)
    found = Axe().run(page)
    assert not found.violations_count, found.generate_report()


def shows(page: Any, selector: str, text: str) -> None:
    """Wait until an element shows a text."""
    page.locator(selector).filter(has_text=text).wait_for(timeout=60_000)
