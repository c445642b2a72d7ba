"""Limits of keys and tenants on a running stack."""

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import openai
import pytest

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from services.key_file import sha256
from tests.language_model import LanguageModelServer, running
from tests.refusals import read_refusal
from tests.stack import Stack, wait_until, wait_until_ready

KEYS: dict[str, dict[str, Any]] = {
    "requests": {"requests_per_minute": 3},
    "tokens": {"tokens_per_minute": 40},
    "money": {"money_per_day": 0.96},
    "calls": {"concurrent_calls": 1},
    "free": {},
}


@pytest.fixture(scope="module")
def model() -> Iterator[LanguageModelServer]:
    with running() as server:
        server.usage = {"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20}
        yield server


@pytest.fixture(scope="module")
def stack(
    redis_url: str, prefix: str, model: LanguageModelServer, tmp_path_factory: Any
) -> Iterator[Stack]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    rows = [
        {"sha256": sha256(key), "tenant": key, "limits": limits} for key, limits in KEYS.items()
    ]
    rows += [{"sha256": sha256(f"shared {n}"), "tenant": "shared"} for n in range(2)]
    file.write_text(json.dumps({"keys": rows, "tenants": {"shared": {"requests_per_minute": 2}}}))
    one = Stack(
        redis_url,
        f"{prefix}limits:",
        api_keys_file=str(file),
        llm_base_url=model.url,
        llm_model="p",
        llm_prices="20000,30000",
    )
    wait_until_ready(one)
    yield one
    one.close()


def chat(stack: Stack, key: str, text: str = "", *, stream: bool = False) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": text or str(uuid.uuid4())}], "stream": stream}
    return httpx.post(
        f"http://{stack.http_address}/v1/chat/completions",
        json=body,
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
    )


def lookup(stack: Stack, key: str) -> tuple[grpc.StatusCode, str, float | None]:
    """Look an entry up; return the code, the reason and the retry delay of a refusal."""
    stub = cache_pb2_grpc.CacheServiceStub(stack.gateway)
    request = cache_pb2.LookupEntryRequest(prompt=str(uuid.uuid4()))
    try:
        stub.LookupEntry(request, metadata=(("authorization", f"Bearer {key}"),), timeout=60)
    except grpc.RpcError as error:
        return read_refusal(error)
    return grpc.StatusCode.OK, "", None


def test_requests_are_limited_and_every_response_says_what_is_left(stack: Stack) -> None:
    url = f"http://{stack.http_address}/v1"
    found = [
        httpx.get(f"{url}/models", headers={"Authorization": "Bearer requests"}) for _ in range(4)
    ]
    assert [response.status_code for response in found] == [200, 200, 200, 429]
    remaining = [response.headers["x-ratelimit-remaining-requests"] for response in found]
    assert remaining == ["2", "1", "0", "0"]
    assert {response.headers["x-ratelimit-limit-requests"] for response in found} == {"3"}
    assert all(response.headers["x-ratelimit-reset-requests"].endswith("s") for response in found)
    assert "x-ratelimit-limit-tokens" not in found[0].headers
    assert found[3].json()["error"]["code"] == "rate_limit_exceeded"
    assert 0 < int(found[3].headers["retry-after"]) <= 120
    with (
        openai.OpenAI(base_url=url, api_key="requests", max_retries=0) as client,
        pytest.raises(openai.RateLimitError),
    ):
        client.models.list()
    code, reason, wait = lookup(stack, "requests")
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMIT_EXCEEDED")
    assert wait
    assert 0 < wait <= 120


def test_keys_without_limits_have_no_headers(stack: Stack) -> None:
    response = chat(stack, "free")
    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("x-ratelimit")]


@pytest.mark.parametrize(
    ("key", "reason"), [("tokens", "rate_limit_exceeded"), ("money", "quota_exceeded")]
)
def test_the_language_model_uses_tokens_and_money_and_hits_do_not(
    stack: Stack, key: str, reason: str
) -> None:
    text = str(uuid.uuid4())
    assert chat(stack, key, text).headers["x-memetwin-cache"] == "miss"
    hits = [chat(stack, key, text).headers["x-memetwin-cache"] for _ in range(4)]
    assert hits == ["hit-exact"] * 4
    assert chat(stack, key, stream=True).status_code == 200
    wait_until(lambda: chat(stack, key, text).status_code == 429)
    refused = chat(stack, key, text)
    assert refused.json()["error"]["code"] == reason
    assert int(refused.headers["retry-after"]) > 0


def test_a_call_in_flight_counts_until_it_ends(stack: Stack, model: LanguageModelServer) -> None:
    text = str(uuid.uuid4())
    model.hold(text)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(chat, stack, "calls", text)
        wait_until(lambda: model.calls[text])
        assert lookup(stack, "calls")[1:] == ("TOO_MANY_CALLS", 1.0)
        model.release(text)
        assert first.result().status_code == 200
    wait_until(lambda: lookup(stack, "calls")[1] == "")


def test_the_keys_of_a_tenant_share_its_limits(stack: Stack) -> None:
    reasons = [lookup(stack, f"shared {number % 2}")[1] for number in range(3)]
    assert reasons == ["", "", "RATE_LIMIT_EXCEEDED"]
