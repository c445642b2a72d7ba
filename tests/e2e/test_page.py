"""The main page in a real browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.cli.load import DEMO, load_pictures, load_texts
from tests.browser import opened, shows
from tests.stack import Stack


@pytest.fixture(scope="module")
def page(stack: Stack) -> Iterator[Any]:
    load_pictures(stack.gateway, DEMO / "pictures")
    load_texts(stack.gateway, DEMO / "memes.jsonl")
    with opened(f"http://{stack.http_address}/") as one:
        yield one


def ask_until_it_shows(page: Any, text: str) -> None:
    for _ in range(50):
        with page.expect_response("**/v1/ask*") as reply:
            page.click("#ask button")
        reply.value.finished()
        page.wait_for_selector("#answer blockquote")
        if text in page.inner_text("#answer"):
            return
    raise AssertionError(f"the answer never shows {text!r}")


def test_a_photo_shows_its_twin_by_every_metric(page: Any) -> None:
    page.set_input_files("#file", DEMO / "visitor.jpg")
    for metric in ("cosine", "l2", "ip"):
        page.check(f"[name=metric][value={metric}]")
        shows(page, "#status", f"Found by {metric}")
        shows(page, "#twin-name", "Cat With A Deadline")
    assert (
        page.locator("#twin").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    )
    assert page.locator("#others li").count() == 5


def test_a_question_shows_its_answer_and_then_the_cache(page: Any) -> None:
    page.fill("#question", "Where was the house of Disaster Girl burned?")
    page.click("#ask button")
    page.wait_for_selector("#answer blockquote")
    assert "Mebane" in page.inner_text("#answer")
    ask_until_it_shows(page, "from the cache")  # the gateway stores an answer after returning it
    page.fill("#question", "What is the boiling point of tungsten?")
    page.click("#ask button")
    shows(page, "#answer", "No document answers that")


def test_a_document_that_is_dropped_can_be_asked_about(page: Any) -> None:
    page.evaluate(
        """() => {
            const dropped = new DataTransfer();
            const add = (text, name) => dropped.items.add(new File([text], name));
            add("The warden of valley nine is called Ottilie.", "wardens.txt");
            add("%PDF-1.7 no more", "broken.pdf");
            dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, cancelable: true }));
        }"""
    )
    shows(page, "#answer", "wardens.txt: 1 passage stored")
    shows(page, "#answer .error", "broken.pdf")
    page.fill("#question", "What is the warden of valley nine called?")
    page.click("#ask button")
    shows(page, "#answer blockquote", "Ottilie")


def test_a_file_that_is_no_picture_shows_an_error(page: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not a picture")
    with page.expect_response("**/v1/twins*") as reply:
        page.set_input_files("#file", bad)
    assert reply.value.status == 400
    page.wait_for_selector("#status.error")


def test_the_camera_takes_a_photo(page: Any) -> None:
    page.click("#camera")
    page.locator("#video").evaluate(
        "video => video.videoWidth || new Promise(done => video.onloadedmetadata = done)"
    )
    page.click("#shoot")
    shows(page, "#status", "Found by")
