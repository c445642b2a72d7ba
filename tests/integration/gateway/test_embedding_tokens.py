"""``/v1/embeddings`` takes the token ids of the model's own tokenizer, if a setting says so."""

from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from tests.stack import Stack, wait_until_ready


@pytest.fixture(scope="module")
def url(redis_url: str, prefix: str) -> Iterator[str]:
    stack = Stack(redis_url, f"{prefix}tokens:", embedding_tokens="model")
    wait_until_ready(stack)
    yield f"http://{stack.http_address}/v1/embeddings"
    stack.close()


def test_ids_of_the_models_tokenizer_are_the_same_as_the_text(url: str) -> None:
    def embedded(given: object) -> list[list[float]]:
        reply = httpx.post(url, json={"input": given, "model": "all-MiniLM-L6-v2"}, timeout=60)
        return [one["embedding"] for one in reply.raise_for_status().json()["data"]]

    texts = embedded(["hello world", "world"])
    assert np.allclose(embedded([[101, 7592, 2088, 102], [2088]]), texts, atol=1e-2)
    assert np.allclose(embedded([7592, 2088]), texts[:1], atol=1e-2)
    unknown = httpx.post(url, json={"input": [[1], [2**31]]}, timeout=60).json()["error"]
    assert (unknown["code"], unknown["param"]) == ("unknown_token", "input")
