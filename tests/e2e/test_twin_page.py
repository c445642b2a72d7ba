"""The twin page in a real browser: every state, by mouse and by keyboard, in light and dark."""

import contextlib
import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.cli.load import DEMO, load_pictures
from tests.browser import has_no_faults, opened, shows
from tests.stack import Stack, wait_until, wait_until_ready

VISITOR = DEMO / "visitor.jpg"
NARROW = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def page(stack: Stack) -> Iterator[Any]:
    load_pictures(stack.gateway, DEMO / "pictures")
    with opened(f"http://{stack.http_address}/") as one:
        yield one


@pytest.fixture(autouse=True)
def fresh(page: Any) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    page.reload()
    page.wait_for_selector("#sample-list button")


def find(page: Any, file: Path = VISITOR) -> None:
    page.set_input_files("#file", file)
    page.wait_for_selector("#result:not([hidden])")


def test_a_photo_shows_its_twin_by_every_metric(page: Any) -> None:
    find(page)
    for metric, words in (("cosine", "directions"), ("l2", "straight line"), ("ip", "lengths")):
        page.locator(f"[name=metric][value={metric}]").check(force=True)
        shows(page, "#metric-text", words)
        shows(page, "#twin-name", "Cat With A Deadline")
        shows(page, "#verdict", "Twin")
        assert page.locator("#others li").count() == 8
    width = "image => image.decode().then(() => image.naturalWidth)"
    assert page.locator("#twin").evaluate(width) > 0
    assert page.locator("#photo").evaluate(width) <= 1024
    has_no_faults(page)


def test_another_metric_moves_the_ranks(page: Any) -> None:
    find(page)
    titles = page.locator("#others .text").all_inner_texts()
    page.locator("[name=metric][value=l2]").check(force=True)
    page.wait_for_selector("#others .moved")
    assert page.locator("#others .text").all_inner_texts() != titles


def test_a_runner_up_is_compared_at_a_click(page: Any) -> None:
    find(page)
    page.click("#others li:nth-child(3) button")
    shows(page, "#rank-text", "Number 3")
    name = page.inner_text("#others li:nth-child(3) .text").splitlines()[0]
    shows(page, "#twin-name", name)


def test_why_shows_the_parts_that_count(page: Any) -> None:
    find(page)
    page.click("#why")
    shows(page, "#why-text", "matters most")
    pixels = page.locator("#heat").evaluate(
        "canvas => [...canvas.getContext('2d').getImageData(0, 0, 8, 8).data]"
    )
    brightness = [sum(pixels[at : at + 3]) for at in range(0, len(pixels), 4)]
    assert len(brightness) == 64
    assert max(brightness) > 2 * min(brightness)
    has_no_faults(page)
    page.click("#why")
    assert page.locator("#heat").is_hidden()


def test_the_pair_is_downloaded(page: Any, tmp_path: Path) -> None:
    find(page)
    page.locator("#twin").evaluate("image => image.decode()")
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "me and Cat With A Deadline.jpg"
    download.value.save_as(tmp_path / "pair.jpg")
    assert (tmp_path / "pair.jpg").read_bytes().startswith(b"\xff\xd8\xff")


def test_a_meme_finds_the_twin_of_it(page: Any) -> None:
    page.click("#sample-list button >> nth=0")
    shows(page, ".you figcaption", "This meme")
    sample = page.locator("#sample-list button").first.get_attribute("aria-label")
    assert page.inner_text("#twin-name") not in sample


def test_the_map_shows_the_photo_among_all_memes(page: Any) -> None:
    shows(page, "#map-text", "28 memes")
    drawn = "canvas => canvas.toDataURL().length"
    page.locator("#map").scroll_into_view_if_needed()
    before = page.locator("#map").evaluate(drawn)
    find(page)
    wait_until(lambda: page.locator("#map").evaluate(drawn) != before)
    page.locator("#map").focus()
    for key in ("+", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    shows(page, "#map-text", "Press Enter")
    page.keyboard.press("Enter")
    shows(page, ".you figcaption", "This meme")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("bad.jpg", b"not a picture", "“bad.jpg” is not a picture"),
        ("photo.heic", b"ftypheic", "cannot read HEIC photos"),
        ("large.jpg", b"x" * 30_000_000, "“large.jpg” is not a picture"),
    ],
)
def test_an_error_leaves_no_earlier_twin(
    page: Any, tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    find(page)
    bad = tmp_path / name
    bad.write_bytes(content)
    page.set_input_files("#file", bad)
    shows(page, "#status.error", words)
    assert page.locator("#result").is_hidden()
    has_no_faults(page)


def test_a_server_that_is_gone_is_explained(page: Any) -> None:
    page.route("**/v1/twins?*", lambda route: route.abort())
    page.set_input_files("#file", VISITOR)
    shows(page, "#status.error", "cannot be reached")
    assert page.locator("#result").is_hidden()
    page.unroute("**/v1/twins?*")


def test_the_camera_takes_a_photo_by_keyboard_alone(page: Any) -> None:
    page.locator("#camera").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#shoot:focus")
    page.locator("#video").evaluate(
        "video => video.videoWidth || new Promise(done => video.onloadedmetadata = done)"
    )
    has_no_faults(page)
    page.keyboard.press("Enter")
    shows(page, "#countdown", "2")
    page.wait_for_selector("#result:not([hidden])")
    shows(page, ".you figcaption", "You")
    assert page.locator("#shot").is_hidden()


def test_escape_stops_the_camera(page: Any) -> None:
    page.click("#camera")
    page.wait_for_selector("#shoot:focus")
    page.keyboard.press("Escape")
    assert page.locator("#shot").is_hidden()
    assert page.locator("#video").evaluate("video => video.srcObject === null")
    assert page.locator("#start").is_visible()


def test_a_picture_is_pasted(page: Any) -> None:
    page.evaluate(
        """async () => {
            const canvas = document.createElement("canvas");
            canvas.getContext("2d").fillRect(0, 0, 64, 64);
            const blob = await new Promise((done) => canvas.toBlob(done));
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([blob], "pasted.png", { type: "image/png" }));
            dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
        }"""
    )
    page.wait_for_selector("#result:not([hidden])")


def test_memes_are_searched_added_and_removed(page: Any) -> None:
    page.fill("#words", "a tired machine")
    page.click("#search button")
    shows(page, "#wall li:first-child", "Tired Robot")
    page.fill("#words", "")
    page.click("#add")
    has_no_faults(page)
    page.set_input_files("#new-file", VISITOR)
    page.fill("#new-title", "My Own Meme")
    page.click("#adding button[type=submit]")
    shows(page, "#wall", "My Own Meme")
    page.click("#edit")
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("[aria-label='Remove My Own Meme']")
    shows(page, "#wall-text", "My Own Meme is removed")
    page.locator("#wall", has_text="My Own Meme").wait_for(state="detached")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [NARROW, {"width": 1280, "height": 900}])
def test_it_fits_every_screen(page: Any, scheme: str, viewport: dict[str, int]) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(viewport)
    has_no_faults(page)
    find(page)
    has_no_faults(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    twin, photo = (page.locator(one).bounding_box()["width"] for one in ("#twin", "#photo"))
    assert twin >= photo  # the twin is the hero, also on a phone
    page.emulate_media(color_scheme="light")


def test_forced_colours_and_reduced_motion(page: Any) -> None:
    page.emulate_media(forced_colors="active", reduced_motion="reduce")
    find(page)
    border = page.locator("#why").evaluate("node => getComputedStyle(node).borderTopStyle")
    assert border == "solid"
    assert page.evaluate("document.getAnimations().length") == 0
    page.emulate_media(forced_colors="none", reduced_motion="no-preference")


def test_the_first_view_is_small(page: Any) -> None:
    sizes: list[int] = []
    other = page.context.browser.new_page()
    other.on("response", lambda one: sizes.append(0 if "/v1/" in one.url else len(one.body())))
    other.goto(page.url, wait_until="networkidle")
    other.close()
    assert len([size for size in sizes if size]) > 5
    assert sum(sizes) <= 300_000


def test_the_page_asks_for_a_key_once(page: Any, redis_url: str, tmp_path: Path) -> None:
    keys, digest = tmp_path / "keys.json", hashlib.sha256(b"the key").hexdigest()
    keys.write_text(json.dumps([{"sha256": digest, "tenant": "page"}]))
    with contextlib.ExitStack() as exits:
        stack = Stack(redis_url, f"{uuid.uuid4()}:", api_keys_file=str(keys))
        exits.callback(stack.close)
        wait_until_ready(stack)
        other = page.context.browser.new_page()
        exits.callback(other.close)
        other.goto(f"http://{stack.http_address}/")
        has_no_faults(other)
        other.fill("#api-key", "another key")
        other.keyboard.press("Enter")
        shows(other, "dialog", "does not know this API key")
        other.fill("#api-key", "the key")
        other.keyboard.press("Enter")
        shows(other, "#map-text", "No memes are loaded yet")
        other.click("#add")
        other.set_input_files("#new-file", VISITOR)
        other.fill("#new-title", "Mine")
        other.click("#adding button[type=submit]")
        shows(other, "#wall", "Mine")
        picture = other.locator("#wall img").first
        picture.scroll_into_view_if_needed()
        wait_until(lambda: picture.evaluate("image => image.naturalWidth > 0"))
        other.set_input_files("#file", VISITOR)
        shows(other, "#twin-name", "Mine")
        shows(other, "#verdict", "Spitting image")
