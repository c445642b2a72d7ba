import base64
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette

from services.errors import InvalidArgument
from services.gateway.backends.types import TextReading, Vectors
from services.gateway.openai.embedding_tokens import TokenDecoder
from services.gateway.openai.embeddings import (
    MAX_INPUT_TOKENS,
    MAX_INPUTS,
    EmbeddingRoutes,
    encode,
    read_as_base64,
    read_dimensions,
    read_inputs,
    read_model,
    read_truncate,
)
from tests.fakes.backends import FakeEmbedder
from tests.fakes.encodings import small_encoding


def test_one_text_or_many_are_embedded() -> None:
    assert read_inputs({"input": "a"}) == (["a"], [])
    assert read_inputs({"input": [" ", "b"]}) == ([" ", "b"], [])
    assert len(read_inputs({"input": ["a"] * MAX_INPUTS})[0]) == MAX_INPUTS


def test_one_or_many_lists_of_tokens_are_embedded() -> None:
    assert read_inputs({"input": [1, 2]}) == ([], [[1, 2]])
    assert read_inputs({"input": [[1, 2], [0]]}) == ([], [[1, 2], [0]])


@pytest.mark.parametrize(
    "given",
    [
        *(None, "", [], [""], ["x", ""], {"a": 1}, 5, ["a"] * (MAX_INPUTS + 1)),
        *([[]], [[1], []], [[1], "a"], ["a", 1], [1, "a"], [-1], [1.5], [True], [[[1]]]),
        [[1] * (MAX_INPUT_TOKENS + 1)],
    ],
)
def test_anything_else_is_refused(given: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_inputs({"input": given})
    assert (caught.value.reason, caught.value.field) == ("BAD_INPUT", "input")


def test_dimensions_are_optional() -> None:
    assert [read_dimensions(body) for body in ({}, {"dimensions": None})] == [0, 0]
    assert read_dimensions({"dimensions": 64}) == 64
    others: list[Any] = [-1, 0, "64", 1.5, True, False, [], 2**31, 2**40]
    for bad in others:
        with pytest.raises(InvalidArgument, match="dimensions"):
            read_dimensions({"dimensions": bad})


def test_the_model_and_the_encoding_are_names() -> None:
    assert [read_model(body) for body in ({}, {"model": None}, {"model": "m"})] == ["", "", "m"]
    encodings: list[Any] = [None, "float", "base64"]
    assert [read_as_base64({"encoding_format": one}) for one in encodings] == [False, False, True]
    others: list[Any] = [5, ["m"], {"a": 1}, True]
    for bad in others:
        with pytest.raises(InvalidArgument) as caught:
            read_model({"model": bad})
        assert caught.value.field == "model"
        with pytest.raises(InvalidArgument) as caught:
            read_as_base64({"encoding_format": bad})
        assert caught.value.field == "encoding_format"


def test_base64_has_the_same_numbers_as_a_list() -> None:
    vector = np.array([0.25, -1.5], np.float32)
    numbers = encode(vector, as_base64=False)
    assert isinstance(numbers, np.ndarray)
    assert numbers.tolist() == [0.25, -1.5]
    packed = encode(vector, as_base64=True)
    assert isinstance(packed, str)
    assert np.frombuffer(base64.b64decode(packed), "<f4").tolist() == [0.25, -1.5]


class Embedder(FakeEmbedder):
    async def detokenize(self, token_ids: Sequence[Sequence[int]], model: str) -> list[str]:
        for index, ids in enumerate(token_ids):
            if max(ids) > 255:
                place = f"token_ids[{index}]"
                raise InvalidArgument("UNKNOWN_TOKEN", "No such token.", field=place)
        return [bytes(ids).decode() for ids in token_ids]

    async def embed_with_usage(
        self, texts: Sequence[str], model: str, dimensions: int, *, truncate: bool = True
    ) -> tuple[Vectors, int]:
        vectors = await self.embed_queries(texts)
        cut = [number for number, one in enumerate(vectors.readings) if one.truncated]
        if cut and not truncate:
            raise InvalidArgument(
                "TEXT_TOO_LONG", "Too long.", field=f"inputs[{cut[0]}].text", max_tokens=256
            )
        if "large" in texts:
            place = f"inputs[{list(texts).index('large')}].text"
            raise InvalidArgument("TEXT_TOO_LARGE", "Too large.", field=place)
        if model:
            raise InvalidArgument("MODEL_NOT_FOUND", "No such model.", field="model")
        return vectors, len(texts)


async def post(
    given: Any, headers: dict[str, str] | None = None, encoding: str = "", **body: Any
) -> httpx.Response:
    embedder = Embedder()
    embedder.readings["long"] = TextReading(truncated=True, unread=((3, 4),))
    app = Starlette(
        routes=EmbeddingRoutes(embedder, TokenDecoder(embedder, encoding, small_encoding)).routes()
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.post("/v1/embeddings", json={"input": given, **body}, headers=headers)


async def test_a_header_counts_the_truncated_inputs() -> None:
    for given, count in (("a", "0"), (["long", "a", "long"], "2")):
        reply = await post(given)
        assert reply.status_code == 200
        assert reply.headers["x-memetwin-truncated-inputs"] == count


async def test_a_header_refuses_inputs_that_would_be_truncated() -> None:
    headers = {"X-Memetwin-Truncate": "false"}
    assert (await post(["a"], headers)).status_code == 200
    reply = await post(["a", "long"], headers)
    assert reply.status_code == 400
    assert reply.json()["error"] == {
        "message": "Input 1 has more than the 256 tokens that the model reads. Shorten it, or omit"
        " the header X-Memetwin-Truncate.",
        "type": "invalid_request_error",
        "param": "input",
        "code": "text_too_long",
    }


async def test_errors_name_the_parameters_of_openai() -> None:
    error = (await post(["a", "large"])).json()["error"]
    assert (error["param"], error["message"]) == ("input", "Too large. This is input 1.")
    assert (await post("a", model="x")).json()["error"]["param"] == "model"
    empty = (await post(["", "x"])).json()["error"]
    assert (empty["param"], empty["code"]) == ("input", "bad_input")


async def test_tokens_are_decoded_by_the_configured_encoding() -> None:
    tokens = small_encoding("small").encode_batch(["a bird", "a long bird"])
    texts = await post(["a bird", "a long bird"])
    assert (await post(tokens, encoding="small")).json() == texts.json()
    assert (await post(tokens[0], encoding="small")).json()["data"] == texts.json()["data"][:1]


async def test_tokens_are_decoded_by_the_models_tokenizer() -> None:
    texts = await post(["a bird", "a"])
    assert (await post([[*b"a bird"], [*b"a"]], encoding="model")).json() == texts.json()
    for token in (256, 2**40):
        error = (await post([[1], [token]], encoding="model")).json()["error"]
        assert (error["param"], error["code"]) == ("input", "unknown_token")
        assert "nput 1" in error["message"]


async def test_tokens_of_an_unknown_encoding_are_refused() -> None:
    reply = await post([[1, 2], [3]])
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (400, "tokens_not_accepted")
    assert error["param"] == "input"
    assert "check_embedding_ctx_length=False" in error["message"]
    assert "MEMETWIN_EMBEDDING_TOKENS" in error["message"]


async def test_a_request_may_have_as_many_tokens_as_with_openai() -> None:
    tokens = small_encoding("small").encode("a " * 100)
    reply = await post([tokens] * 1000, encoding="small")
    assert len(reply.json()["data"]) == 1000


def test_truncation_is_true_or_false() -> None:
    assert [read_truncate(value) for value in ("true", "False ", "FALSE")] == [True, False, False]
    with pytest.raises(InvalidArgument, match="must be true or false"):
        read_truncate("0")
