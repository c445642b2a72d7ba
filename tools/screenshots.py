"""Takes the pictures of the documentation from the pages of a running stack, in Chromium.

Usage: ``make up``, and then ``make screenshots``. The stack must have the demo's memes and texts.
"""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
PREVIEW = ROOT / "services/gateway/app/static/preview.jpg"
VISITOR = ROOT / "deploy/demo/visitor.jpg"
WIDTH, HEIGHT = 1200, 780
QUESTION = "Where was the house of Disaster Girl burned?"


def twin(page: Any) -> None:
    """Show the twin of the demo's visitor."""
    page.set_input_files("#file", VISITOR)
    page.wait_for_selector("#others li")
    page.locator("#twin").evaluate("image => image.decode()")


def ask(page: Any) -> None:
    """Show an answer and its steps."""
    page.fill("#question", QUESTION)
    page.keyboard.press("Enter")
    page.wait_for_selector(".tools")


def cache(page: Any) -> None:
    """Show what the cache has saved."""
    page.wait_for_load_state("networkidle")


PICTURES: dict[str, tuple[str, Callable[[Any], None]]] = {
    "twin": ("/", twin),
    "ask": ("/ask", ask),
    "cache": ("/cache", cache),
}


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="address of the gateway")
    url = parser.parse_args().url
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": WIDTH, "height": HEIGHT},
            color_scheme="light",
            reduced_motion="reduce",
        )
        for name, (address, prepare) in PICTURES.items():
            page = context.new_page()
            page.goto(url + address, wait_until="networkidle")
            prepare(page)
            page.wait_for_load_state("networkidle")
            page.screenshot(path=IMAGES / f"{name}.png")
            if name == "twin":  # what other sites show beside a link
                page.set_viewport_size({"width": WIDTH, "height": 630})
                page.screenshot(path=PREVIEW, quality=75, type="jpeg")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
