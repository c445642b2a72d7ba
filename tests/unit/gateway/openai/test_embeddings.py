import base64
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette

from services.errors import InvalidArgument
from services.gateway.backends.types import TextReading, Vectors
from services.gateway.openai.embeddings import (
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


def test_one_text_or_many_are_embedded() -> None:
    assert read_inputs({"input": "a"}) == ["a"]
    assert read_inputs({"input": ["a", "b"]}) == ["a", "b"]
    assert len(read_inputs({"input": ["a"] * MAX_INPUTS})) == MAX_INPUTS


@pytest.mark.parametrize(
    "given", [None, "", [], [""], " ", ["\n", "x"], [1], {"a": 1}, ["a"] * (MAX_INPUTS + 1)]
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


async def post(given: Any, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    embedder = Embedder()
    embedder.readings["long"] = TextReading(truncated=True, unread=((3, 4),))
    app = Starlette(routes=EmbeddingRoutes(embedder).routes())
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
    blank = (await post([" ", "x"])).json()["error"]
    assert (blank["param"], blank["code"]) == ("input", "bad_input")


def test_truncation_is_true_or_false() -> None:
    assert [read_truncate(value) for value in ("true", "False ", "FALSE")] == [True, False, False]
    with pytest.raises(InvalidArgument, match="must be true or false"):
        read_truncate("0")
