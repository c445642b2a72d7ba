"""Pages of other origins in a real browser, which try to use a gateway without keys on loopback."""

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.browser import opened, shows
from tests.stack import Stack

REBOUND = "evil.example"
FORM = """<form method="post" enctype="{encoding}" action="{action}">
<textarea name="file">planted</textarea><input type="submit"></form>"""


def test_a_name_that_is_rebound_to_the_gateway_reads_nothing(stack: Stack) -> None:
    port = stack.http_address.rpartition(":")[2]
    rules = f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"
    with opened(f"http://{REBOUND}:{port}/cache", rules) as page:
        shows(page, "#status", "does not know the host")
        assert page.locator("#outcomes li").count() == 0


@pytest.fixture(
    scope="module", params=["http://evil.example", "http://127.0.0.1:9", "https://evil.example"]
)
def foreign(request: Any, stack: Stack) -> Iterator[Any]:
    """A page of another site, of another port of this machine, and of another site over TLS."""
    with opened("about:blank", "--disable-features=LocalNetworkAccessChecks") as page:
        page.route(
            f"{request.param}/**",
            lambda route: route.fulfill(body="<p>Kittens</p>", content_type="text/html"),
        )
        page.origin = request.param
        yield page


def documents(stack: Stack, collection: str) -> bool:
    """Return whether the collection exists."""
    body = {"collection": collection, "question": "What is planted?"}
    reply = httpx.post(f"http://{stack.http_address}/v1/ask", json=body, timeout=60)
    return reply.status_code != 404


@pytest.mark.parametrize("encoding", ["multipart/form-data", "text/plain"])
def test_a_form_plants_no_document(stack: Stack, foreign: Any, encoding: str) -> None:
    collection = f"foreign-{uuid.uuid4()}"
    action = f"http://{stack.http_address}/v1/documents?collection={collection}&id=x"
    foreign.goto(f"{foreign.origin}/")
    foreign.evaluate(
        "html => { document.body.innerHTML = html; }", FORM.format(encoding=encoding, action=action)
    )
    with foreign.expect_response("**/v1/documents*") as reply:
        foreign.click("[type=submit]")
    assert reply.value.status == 403
    assert not documents(stack, collection)


def test_a_script_neither_writes_nor_reads(stack: Stack, foreign: Any) -> None:
    collection = f"foreign-{uuid.uuid4()}"
    base = f"http://{stack.http_address}"
    foreign.goto(f"{foreign.origin}/")
    fetched = (
        """([url, options]) => fetch(url, options).then((reply) => reply.type, () => "refused")"""
    )
    url = f"{base}/v1/documents?collection={collection}&id=x"
    for mode, seen in [("cors", {"refused"}), ("no-cors", {"refused", "opaque"})]:
        options = {"method": "POST", "body": "planted", "mode": mode}
        assert foreign.evaluate(fetched, [url, options]) in seen
    assert not documents(stack, collection)
    assert foreign.evaluate(fetched, [f"{base}/v1/cache/stats", {}]) == "refused"


def test_a_link_opens_the_page_and_no_data(stack: Stack, foreign: Any) -> None:
    base = f"http://{stack.http_address}"
    for path, status in [("/", 200), ("/v1/cache/stats", 403)]:
        foreign.goto(f"{foreign.origin}/")
        with foreign.expect_navigation() as navigation:
            foreign.evaluate("url => { location.href = url; }", base + path)
        assert navigation.value.status == status
