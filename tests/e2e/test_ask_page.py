"""The page of questions and answers in a real browser."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.cli.load import DEMO, load_texts
from tests.browser import has_no_faults, opened, shows
from tests.language_model import running
from tests.stack import Stack, wait_until_ready

QUESTION = "Where was the house of Disaster Girl burned?"


@pytest.fixture(scope="module")
def page(stack: Stack) -> Iterator[Any]:
    load_texts(stack.gateway, DEMO / "memes.jsonl")
    with opened(f"http://{stack.http_address}/ask") as one:
        yield one


@pytest.fixture(autouse=True)
def fresh(page: Any) -> None:
    page.evaluate("sessionStorage.clear()")
    page.reload()
    page.wait_for_selector("#samples button")


def ask(page: Any, question: str) -> Any:
    """Ask; return the turn that shows the answer."""
    page.fill("#question", question)
    page.keyboard.press("Enter")
    turn = page.locator(".turn").last
    turn.locator(".tools").wait_for(timeout=60_000)
    return turn


def test_an_answer_shows_its_steps_and_opens_its_source(page: Any) -> None:
    has_no_faults(page)
    turn = ask(page, QUESTION)
    for step in ("Cache", "Embedding", "Passages", "Writing"):
        assert step in turn.locator(".steps").inner_text()
    assert "Mebane" in turn.locator(".answer").inner_text()
    turn.locator(".cite", has_text="Mebane").first.click()
    shows(page, "#source mark", "Mebane")
    shows(page, "#source-title", "Disaster Girl")
    has_no_faults(page)
    page.keyboard.press("Escape")
    turn.get_by_text("Show the prompt").click()
    assert "Given the following context" in turn.locator(".prompt").inner_text()


def test_the_same_question_comes_from_the_cache(page: Any) -> None:
    for _ in range(50):  # the gateway stores an answer after returning it
        page.click("#clear") if page.is_visible("#clear") else None
        if "the same question" in ask(page, QUESTION).locator(".steps").inner_text():
            return
    raise AssertionError


def test_a_refusal_says_how_near_the_documents_are(page: Any) -> None:
    turn = ask(page, "What is the boiling point of tungsten?")
    assert "do not answer that" in turn.locator(".answer").inner_text()
    assert "An answer needs" in turn.locator(".answer").inner_text()
    has_no_faults(page)


def test_a_visitors_documents_are_added_asked_about_and_deleted(page: Any, tmp_path: Path) -> None:
    warden = tmp_path / "wardens.txt"
    warden.write_text("The warden of valley nine is called Ottilie.")
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7 no more")
    page.set_input_files("#files", [warden, broken])
    shows(page, "#own", "wardens")
    shows(page, "#own-text.error", "broken.pdf")
    turn = ask(page, "What is the warden of valley nine called?")
    assert "Ottilie" in turn.locator(".answer").inner_text()
    has_no_faults(page)
    page.click("#forget")
    shows(page, "#own-text", "are deleted")
    assert page.locator("#own li").count() == 0
    page.click("#clear")
    turn = ask(page, "Who is the warden of valley nine?")
    assert "Ottilie" not in turn.locator(".answer").inner_text()


def test_documents_are_dropped(page: Any) -> None:
    page.evaluate(
        """() => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File(["The mayor of Farley is Odo."], "farley.txt"));
            dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
        }"""
    )
    shows(page, "#own", "farley")
    page.click("[aria-label='Delete farley.txt']")
    shows(page, "#own-text", "is deleted")


def test_an_error_offers_another_try(page: Any) -> None:
    page.route("**/v1/ask", lambda route: route.abort())
    page.fill("#question", QUESTION)
    page.click("#send")
    shows(page, ".turn .error", "cannot be reached")
    page.unroute("**/v1/ask")
    page.get_by_role("button", name="Try again").click()
    page.locator(".turn .tools").wait_for(timeout=60_000)
    assert page.locator(".turn").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_every_screen(page: Any, scheme: str, width: int) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    ask(page, QUESTION)
    has_no_faults(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.emulate_media(color_scheme="light")


def test_a_language_models_answer_is_stopped_and_asked_again(
    page: Any, redis_url: str, prefix: str
) -> None:
    with running() as server, contextlib.ExitStack() as exits:
        server.delay = 30.0
        stack = Stack(redis_url, prefix + "llm:", llm_base_url=server.url, llm_model="parrot")
        exits.callback(stack.close)
        wait_until_ready(stack)
        load_texts(stack.gateway, DEMO / "memes.jsonl")
        other = page.context.browser.new_page()
        exits.callback(other.close)
        other.goto(f"http://{stack.http_address}/ask")
        other.fill("#question", QUESTION)
        other.keyboard.press("Enter")
        shows(other, ".steps", "8 found")
        other.click("#cancel")
        shows(other, ".turn", "Stopped.")
        server.delay = 0.0
        turn = ask(other, "Who is Kabosu?")
        shows(other, ".steps", "parrot")
        assert turn.locator(".answer").inner_text()
