"""The page that explains how memetwin works, in a real browser: its steps, sizes and looks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.cli.load import DEMO, load_pictures, load_texts
from tests.browser import faults, has_no_faults, opened, shows
from tests.stack import Stack

STEPS = (
    *("data", "numbers", "axes", "distance", "index", "search", "caching", "retrieval"),
    *("neuron", "convolution", "network"),
)
MAX_BYTES = 300_000  # of the page with its scripts, styles and font


@pytest.fixture(scope="module")
def loaded(stack: Stack) -> Stack:
    load_pictures(stack.gateway, DEMO / "pictures")
    load_texts(stack.gateway, DEMO / "memes.jsonl")
    return stack


@pytest.fixture
def fresh(page: Any) -> Iterator[Any]:
    """Return another page, which shows nothing yet."""
    one = page.context.browser.new_page()
    problems: list[str] = []
    one.on("pageerror", lambda error: problems.append(str(error)))
    one.on("console", lambda line: problems.extend(faults(line, one.url)))
    yield one
    one.close()
    assert not problems


@pytest.fixture(scope="module")
def page(loaded: Stack) -> Iterator[Any]:
    with opened(f"http://{loaded.http_address}/talk") as one:
        start_all(one)
        yield one


def start_all(page: Any) -> None:
    """Scroll to each step, which starts it, and wait until each shows its results."""
    for step in STEPS:
        page.locator(f"#{step}").scroll_into_view_if_needed()
    shows(page, "#numbers-text-out", "384 numbers")
    shows(page, "#numbers-picture-out", "256 numbers")
    shows(page, "#axes-list", "An old man sips whisky")
    shows(page, "#distance-facts", "inner product")
    shows(page, "#index-rows", "HNSW, ef 160")
    shows(page, "#search-status", "Searched")
    shows(page, "#caching-verdict", "Not served")
    shows(page, "#retrieval-status", "3 passages")
    shows(page, "#network-name", "Layer 1 of 22: Convolution")


def text(page: Any, selector: str) -> str:
    return str(page.inner_text(selector))


def slide(page: Any, selector: str, value: float) -> None:
    page.locator(selector).fill(str(value))


def test_structured_data_are_filtered_and_a_brighter_picture_has_other_numbers(page: Any) -> None:
    slide(page, "#data-year", 2013)
    assert text(page, "#data-count") == "2 of 5 memes are from 2013 or later."
    slide(page, "#data-light", 20)
    shows(page, "#data-changed", "numbers have changed (")
    assert "still shows the same thing" in text(page, "#data-changed")


def test_an_edited_picture_keeps_most_of_its_embedding(page: Any) -> None:
    page.check("[name=edit][value=grey]")
    shows(page, "#numbers-picture-out", "The cosine of the grey picture and the original is 0.")
    page.check("[name=edit][value=none]")
    page.focus("#numbers-text")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    shows(page, "#numbers-text-out", "Number 33 of 384 is")


def test_texts_land_on_axes_between_poles(page: Any) -> None:
    places = {
        item.locator("span").inner_text(): [
            float(part) for part in item.locator("small").inner_text().replace("−", "-").split("|")
        ]
        for item in page.locator("#axes-list li").all()
    }
    assert places["An old man sips whisky"] > [0, 0]
    assert places["A toddler drinks milk"] < [0, 0]
    assert places["Teenagers share a bottle of vodka"][0] < 0 < places["A pensioner drinks tea"][0]
    page.fill("#axes-new", "My uncle opens a beer")
    page.press("#axes-new", "Enter")
    shows(page, "#axes-list", "My uncle opens a beer")
    page.click("text=Remove")
    page.locator("#axes-list li", has_text="My uncle").wait_for(state="detached")


def test_stretching_an_arrow_changes_the_inner_product_and_not_the_cosine(page: Any) -> None:
    before = text(page, "#distance-facts dd >> nth=0")
    slide(page, "#distance-stretch", 1.5)
    shows(page, "#distance-facts", "|b| = 1.50")
    assert text(page, "#distance-facts dd >> nth=0") == before
    assert "× 1.50" in text(page, "#distance-facts dd >> nth=1")
    page.fill("#distance-other", text(page, "#subject-text") or "My cat is tired on Monday morning")
    shows(page, "#distance-facts", "an angle of 0°")


def test_hnsw_compares_fewer_points_and_finds_more_with_a_larger_ef(page: Any) -> None:
    rows = [row.inner_text().split("\t") for row in page.locator("#index-rows tr").all()]
    recalls = [float(row[1]) for row in rows[1:]]
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.8
    assert recalls[-1] > 0.95
    assert all(int(row[2].replace(",", "")) < 5000 for row in rows[1:])
    slide(page, "#index-ef", 80)
    shows(page, "#index-text", "of the 300 points and finds")
    few = text(page, "#index-text")
    page.focus("#index-graph")
    page.keyboard.press("ArrowLeft")
    assert text(page, "#index-text") != few
    page.emulate_media(reduced_motion="reduce")
    page.click("#index-walk")


def test_search_by_meaning_finds_what_shares_no_word(page: Any) -> None:
    page.click("text=a canine with bad spelling")
    shows(page, "#search-meaning li >> nth=0", "Doge")
    shows(page, "#search-meaning li >> nth=0", "shares no word")


@pytest.mark.parametrize(
    ("name", "verdict", "reason"),
    [
        ("Same question", "Served: a semantic hit", "probability is high enough"),
        ("Number", "Not served", "different numbers"),
        ("Opposite", "Not served", "opposite words"),
        ("Other topic", "Not served", "probability is too low"),
        ("Order", "Not served", "swapped their roles"),
    ],
)
def test_the_verifier_gives_its_reason(page: Any, name: str, verdict: str, reason: str) -> None:
    page.locator("#caching-samples").get_by_role("button", name=name).click()
    shows(page, "#caching-reason", reason)
    shows(page, "#caching-verdict", verdict)


def test_equal_questions_are_an_exact_hit(page: Any) -> None:
    page.fill("#caching-one", "What is a meme?")
    page.fill("#caching-other", "What is a meme?")
    shows(page, "#caching-verdict", "an exact hit")


def test_the_prompt_has_the_passages_and_the_answer_comes_from_them(page: Any) -> None:
    prompt = text(page, "#retrieval-prompt")
    assert prompt.startswith("Given the following context:")
    assert "Tardar Sauce" in prompt
    assert prompt.endswith(
        "Answer the following question:\n\nWhich cat became famous for looking annoyed?"
    )
    page.click("#retrieval-ask")
    shows(page, "#retrieval-answer blockquote", "Tardar Sauce")
    page.fill("#retrieval-text", "What is the boiling point of tungsten?")
    page.press("#retrieval-text", "Enter")
    shows(page, "#retrieval-status", "refuses to answer")


def test_a_neuron_computes_what_its_formula_says(page: Any) -> None:
    for name, value in {"x1": 1, "w1": 2, "x2": -1, "w2": 1.5, "b": -1}.items():
        slide(page, f"#neuron-{name}", value)
    for function, output in {
        "linear": "−0.50",
        "relu": "0.00",
        "tanh": "−0.46",
        "sigmoid": "0.38",
    }.items():
        page.check(f"[name=activation][value={function}]")
        assert text(page, "#neuron-sum").endswith(f"= −0.50, y = f(z) = {output}")


def test_a_convolution_is_followed_to_the_flattened_list(page: Any) -> None:
    cells = page.locator("#convolution-result .cell")
    assert cells.count() == 64
    assert [cell.inner_text() for cell in cells.all()[16:24]] == list("−3 −3 0 0 0 0 3 3".split())
    flat = [cell.inner_text() for cell in page.locator("#convolution-flat .cell").all()]
    assert flat == "0 0 0 2 0 0 0 3 0 0 0 3 0 0 0 2".split()
    slide(page, "#convolution-place", 63)
    assert "−1×0 = 1" in text(page, "#convolution-sum")
    page.locator("#convolution-input button").nth(99).click()
    assert "−1×1 = 0" in text(page, "#convolution-sum")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    assert "0×1 + −1×1 = 0" in text(page, "#convolution-sum")


def test_the_photo_is_followed_through_all_layers(page: Any) -> None:
    assert page.locator("#network-layers button").count() == 22
    shows(page, "#network-about", "32 maps of 48 × 48 numbers, of which you see 16.")
    shows(page, "#network-filters", "The kernels of these maps")
    page.click("#network-next")
    shows(page, "#network-name", "Layer 2 of 22: ReLU")
    page.locator("#network-layers button").last.click()
    shows(page, "#network-about", "A list of 256 numbers.")
    assert page.is_disabled("#network-next")


def test_a_photo_and_a_text_of_the_visitor_reach_the_steps(page: Any) -> None:
    page.set_input_files("#subject-file", DEMO / "visitor.jpg")
    shows(page, "#subject-status", "your photo")
    page.fill("#subject-text", "A robot needs coffee")
    shows(page, "#numbers-text-out", "A robot needs coffee")
    shows(page, "#axes-list", "A robot needs coffee")
    assert page.input_value("#distance-one") == "A robot needs coffee"


def test_a_file_that_is_no_picture_says_so(page: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not a picture")
    page.set_input_files("#subject-file", bad)
    shows(page, "#subject-status.error", "is not a picture")


@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_and_has_no_faults_in_any_look(fresh: Any, loaded: Stack, width: int) -> None:
    fresh.set_viewport_size({"width": width, "height": 800})
    fresh.goto(f"http://{loaded.http_address}/talk")
    start_all(fresh)
    looks = ({"color_scheme": "light"}, {"color_scheme": "dark"}, {"forced_colors": "active"})
    for look in looks:
        fresh.emulate_media(**look)
        assert fresh.evaluate("document.documentElement.scrollWidth") <= width
        has_no_faults(fresh)


def test_it_is_small_and_asks_nobody_else(fresh: Any, loaded: Stack) -> None:
    origin = f"http://{loaded.http_address}/"
    asked: list[str] = []
    fresh.on("request", lambda request: asked.append(request.url))
    fresh.goto(f"{origin}talk")
    start_all(fresh)
    assert all(url.startswith((origin, f"blob:{origin}")) for url in asked)
    sizes: dict[str, int] = fresh.evaluate(
        """() => Object.fromEntries(
            ["navigation", "resource"].flatMap((kind) => performance.getEntriesByType(kind))
                .map((one) => [new URL(one.name).pathname, one.decodedBodySize]))"""
    )
    static = {path: size for path, size in sizes.items() if path.startswith(("/talk", "/pages/"))}
    assert {"/talk", "/pages/page.css", "/pages/talk-network.js"} <= static.keys()
    assert sum(static.values()) <= MAX_BYTES


def test_the_contents_follow_the_reader_and_work_by_keyboard(page: Any) -> None:
    page.locator(".contents a[href='#neuron']").press("Enter")
    page.locator(".contents a[href='#neuron'][aria-current]").wait_for()


def test_a_server_that_is_gone_is_said(fresh: Any, loaded: Stack) -> None:
    fresh.goto(f"http://{loaded.http_address}/talk")
    start_all(fresh)
    fresh.route("**/v1/**", lambda route: route.abort())
    fresh.fill("#caching-one", "Is anybody there?")
    shows(fresh, "#caching-reason.error", "The server cannot be reached")


def test_the_camera_takes_a_photo_for_the_steps(page: Any) -> None:
    page.click("#subject-samples button >> nth=1")
    shows(page, "#subject-status", "the meme")
    page.click("#camera")
    page.locator("#video").evaluate(
        "video => video.videoWidth || new Promise(done => video.onloadedmetadata = done)"
    )
    page.click("#shoot")
    shows(page, "#subject-status", "your photo")
    assert page.is_hidden("#shot")
