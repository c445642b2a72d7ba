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


def is_problem(line: Any) -> bool:
    """Return whether a line of the console is an error, but for replies that scripts handle."""
    return line.type == "error" and "Failed to load resource" not in line.text


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
        page.on("console", lambda line: problems.append(line.text) if is_problem(line) else None)
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
