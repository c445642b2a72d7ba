"""The cache page in a real browser: its numbers and curves, which need a key if keys are set."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from tests.browser import has_no_faults, opened, shows
from tests.language_model import running
from tests.stack import Stack, wait_until, wait_until_ready

KEY = "the key"
HEADERS = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def stack(redis_url: str, prefix: str, tmp_path_factory: Any) -> Iterator[Stack]:
    file: Path = tmp_path_factory.mktemp("keys") / "keys.json"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    file.write_text(json.dumps([{"sha256": digest, "tenant": "page"}]))
    with running() as server:
        server.usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        server.delay = 2.0
        model: dict[str, Any] = {"llm_base_url": server.url, "llm_model": "parrot"}
        model["llm_prices"] = "1000,10000"
        one = Stack(redis_url, prefix, api_keys_file=str(file), **model)
        wait_until_ready(one)
        yield one
        one.close()


def fill(stack: Stack) -> None:
    """Make one miss and three hits, and report one hit as wrong."""
    url = f"http://{stack.http_address}/v1/chat/completions"
    body = {"messages": [{"role": "user", "content": "What is a meme?"}]}
    stub: Any = cache_pb2_grpc.CacheServiceStub(stack.gateway)
    metadata = (("authorization", f"Bearer {KEY}"),)

    def entries() -> list[Any]:
        return list(stub.ListEntries(cache_pb2.ListEntriesRequest(), metadata=metadata).entries)

    for _ in range(4):
        httpx.post(url, json=body, headers=HEADERS, timeout=30).raise_for_status()
        wait_until(entries)  # the gateway stores it after returning it
    [entry] = entries()
    stub.ReportFeedback(cache_pb2.ReportFeedbackRequest(id=entry.id), metadata=metadata)


def test_the_page_shows_what_the_cache_saves_to_who_has_a_key(stack: Stack) -> None:
    fill(stack)
    with opened(f"http://{stack.http_address}/cache") as page:
        shows(page, "dialog", "requires an API key")
        page.click("dialog button[type=button]")
        shows(page, "#status", "API key")
        assert page.is_hidden("#numbers")
        page.click("#retry")
        page.fill("#api-key", "another")
        page.press("#api-key", "Enter")
        shows(page, "dialog", "does not know this API key")
        page.fill("#api-key", KEY)
        page.press("#api-key", "Enter")
        shows(page, "#headline", "Of 4 questions, 75 % cost nothing")
        # Three times 7 and 5 tokens, and three times .057.
        shows(page, "#saved", "36 tokens, $0.17 and 6")
        shows(page, "#judged", "and 1 of them was wrong")
        page.wait_for_selector("#curves .exact")
        rows = page.locator("#latencies tr").all_inner_texts()
        assert [row.split("\t")[:2] for row in rows] == [["Exact hit", "3"], ["Miss", "1"]]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for width in (360, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            for scheme, forced in (("light", "none"), ("dark", "none"), ("light", "active")):
                page.emulate_media(color_scheme=scheme, forced_colors=forced)
                has_no_faults(page)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        chart = page.locator(".chart svg").first
        chart.focus()
        page.keyboard.press("Home")
        assert "exact 75 %" in chart.get_attribute("aria-valuetext")
        page.reload()  # the key is kept for the session
        shows(page, "#headline", "75 %")
        assert KEY not in page.url
        page.route("**/v1/cache/**", lambda route: route.abort())
        page.evaluate("dispatchEvent(new Event('visibilitychange'))")
        shows(page, "#status", "The numbers below are from")
        has_no_faults(page)


def test_an_empty_cache_says_what_to_do(redis_url: str, prefix: str) -> None:
    one = Stack(redis_url, f"{prefix}empty:")
    wait_until_ready(one)
    with opened(f"http://{one.http_address}/cache") as page:
        shows(page, "#empty", "MEMETWIN_LLM_BASE_URL")
        shows(page, "#snippet", f"http://{one.http_address}/v1")
        assert page.is_hidden("#numbers")
        has_no_faults(page)
    one.close()


def test_an_answer_is_explained_and_deleted_and_others_are_purged(stack: Stack) -> None:
    url = f"http://{stack.http_address}/v1/chat/completions"
    questions = ("Can I get a refund after 30 days?", "Can I get a refund after 60 days?")
    for question in questions:
        body = {"messages": [{"role": "user", "content": question}]}
        httpx.post(url, json=body, headers=HEADERS, timeout=30).raise_for_status()
    with opened(f"http://{stack.http_address}/cache") as page:
        page.fill("#api-key", KEY)
        page.press("#api-key", "Enter")
        page.click("text=Near misses")
        page.click("#lookups button >> text=Why?")
        shows(page, "#lookups .why", "different numbers")
        shows(page, "#lookups .why", "You asked")
        page.click("#lookups button >> text=Delete")
        shows(page, "#list-status", "deleted")
        assert page.locator("#lookups li").count() == 0
        page.fill("#purge-text", "refund")
        page.click("#purge [type=submit]")
        shows(page, "#preview", questions[0])
        page.click("#purge-confirm")
        shows(page, "#preview", "1 answer is deleted")


def test_nobody_reads_the_numbers_without_a_key(stack: Stack) -> None:
    url = f"http://{stack.http_address}/v1/cache/stats"
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, headers=HEADERS, params={"tenant": "other"}).status_code == 403
    assert httpx.get(f"http://{stack.http_address}/cache").status_code == 200
