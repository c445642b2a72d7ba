"""A web app of another origin calls the API from a real browser, if a setting allows its origin."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import opened
from tests.language_model import running
from tests.stack import Stack, wait_until_ready

APP, OTHER = "http://app.example", "http://other.example"
FETCH = """async ([url, options]) => {
  try {
    const reply = await fetch(url, options);
    const header = (name) => reply.headers.get(name);
    return [reply.status, header("X-Memetwin-Cache"), header("X-Memetwin-Cache-Reason")];
  } catch { return ["refused"]; }
}"""


@pytest.fixture(scope="module", params=[False, True], ids=["without keys", "with keys"])
def allowing(
    request: Any, redis_url: str, prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A stack that allows one origin, without and with API keys."""
    options: dict[str, Any] = {}
    if request.param:
        file: Path = tmp_path_factory.mktemp("keys") / "keys.json"
        digest = hashlib.sha256(b"the-key").hexdigest()
        file.write_text(json.dumps([{"sha256": digest, "tenant": "acme"}]))
        options["api_keys_file"] = str(file)
    with running() as model:
        stack = Stack(
            redis_url,
            f"{prefix}cors{request.param}:",
            llm_base_url=model.url,
            llm_model="parrot",
            cors_origins=APP,
            **options,
        )
        wait_until_ready(stack)
        yield stack
        stack.close()


def fetched(stack: Stack, origin: str) -> Any:
    """Return what a script of an origin sees of a chat completion."""
    options = {
        "method": "POST",
        "headers": {"Authorization": "Bearer the-key", "Content-Type": "application/json"},
        "body": json.dumps({"messages": [{"role": "user", "content": "Hi?"}], "temperature": 2}),
    }
    with opened("about:blank", "--disable-features=LocalNetworkAccessChecks") as page:
        page.route(f"{origin}/**", lambda route: route.fulfill(body="", content_type="text/html"))
        page.goto(f"{origin}/")
        url = f"http://{stack.http_address}/v1/chat/completions"
        return page.evaluate(FETCH, [url, options])


def test_only_an_allowed_origin_calls_the_api(allowing: Stack) -> None:
    assert fetched(allowing, APP) == [200, "bypass", "TEMPERATURE"]
    assert fetched(allowing, OTHER) == ["refused"]
