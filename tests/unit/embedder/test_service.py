import contextlib
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from services.embedder.models.model import Model
from services.embedder.registry import ModelRegistry, ModelSpec
from services.embedder.requests import EmbedRequest, RerankRequest
from services.embedder.service import EmbeddingService, EmbedResult
from services.errors import FailedPrecondition, InvalidArgument, NotFound
from tests.fakes.models import BagOfTokens, FakeModel, model_info
from tests.fakes.tokenizers import word_piece_tokenizer

LONG = "word " * 10
# One white pixel.
GIF = bytes.fromhex(
    "47494638396101000100800000ffffff00000021f90400000000002c00000000010001000002024401003b"
)


@contextlib.asynccontextmanager
async def serving(model: Model, cache_bytes: int = 2**20) -> AsyncIterator[EmbeddingService]:
    modalities = frozenset(model.info.modalities)
    async with ModelRegistry([ModelSpec("m", modalities, lambda: model)], 100_000) as registry:
        await registry.find("m").load_finished.wait()
        service = EmbeddingService(registry, cache_bytes)
        yield service
        service.close()


def vectors(result: EmbedResult) -> Any:
    return np.frombuffer(result.vectors.data, "<f4").reshape(-1, result.vectors.dimensions)


@pytest.fixture
def model() -> FakeModel:
    """A model that has embedded its calibration samples."""
    return FakeModel(model_info("text"))


def computed_since(model: FakeModel, before: int) -> int:
    return model.encoded - before


async def test_vectors_are_the_models_own_normalised_if_asked(model: FakeModel) -> None:
    expected = model.encode(model.prepare(["a cat", "a dog"], ""))
    async with serving(model, 0) as service:
        raw = await service.embed(EmbedRequest(["a cat", "a dog"], normalize=False))
        unit = await service.embed(EmbedRequest(["a cat", "a dog"]))
    assert (vectors(raw) == expected).all()
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    assert vectors(unit) == pytest.approx(expected / lengths, abs=1e-6)
    assert (raw.tokens, raw.truncated, raw.cached_inputs) == ([2, 2], [False, False], 0)
    assert raw.info.name == "fake"


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
async def test_equal_inputs_of_a_request_are_computed_once(
    model: FakeModel, cache_bytes: int
) -> None:
    async with serving(model, cache_bytes) as service:
        before = model.encoded
        result = await service.embed(EmbedRequest(["a", "b", "a", "a"]))
    assert computed_since(model, before) == 2
    assert (vectors(result)[[2, 3]] == vectors(result)[0]).all()
    assert (vectors(result)[1] != vectors(result)[0]).all()
    assert result.cached_inputs == 0


async def test_cached_vectors_are_the_computed_ones(model: FakeModel) -> None:
    async with serving(model) as service:
        first = await service.embed(EmbedRequest(["a cat", "a dog", "a cat"]))
        again = await service.embed(EmbedRequest(["a dog", "a grey bird", "a cat"]))
        before = model.encoded
        whole = await service.embed(EmbedRequest(["a cat", "a dog"]))
        assert computed_since(model, before) == 0
    assert (first.cached_inputs, again.cached_inputs, whole.cached_inputs) == (0, 2, 2)
    assert (first.tokens, again.tokens) == ([2, 2, 2], [2, 3, 2])
    assert (vectors(again)[[0, 2]] == vectors(first)[[1, 0]]).all()
    assert (vectors(whole) == vectors(first)[:2]).all()
    assert whole.timings.inference == 0


async def test_fewer_dimensions_share_a_cached_vector_and_tasks_do_not(model: FakeModel) -> None:
    async with serving(model) as service:
        await service.embed(EmbedRequest(["a cat"], dimensions=4))
        whole = await service.embed(EmbedRequest(["a cat"]))
        other = await service.embed(EmbedRequest(["a cat"], task="query"))
    assert (whole.cached_inputs, vectors(whole).shape) == (1, (1, 8))
    assert other.cached_inputs == 0


async def test_a_cached_text_that_was_truncated_is_still_refused(model: FakeModel) -> None:
    async with serving(model) as service:
        for _ in range(2):
            assert (await service.embed(EmbedRequest([LONG]))).truncated == [True]
        with pytest.raises(InvalidArgument) as refused:
            await service.embed(EmbedRequest(["a", LONG], truncate=False))
    assert (refused.value.reason, refused.value.field) == ("TEXT_TOO_LONG", "inputs[1].text")


async def test_no_store_keeps_vectors_out_of_the_cache(model: FakeModel) -> None:
    async with serving(model) as service:
        assert (await service.embed(EmbedRequest(["a cat"], no_store=True))).cached_inputs == 0
        assert (await service.embed(EmbedRequest(["a cat"]))).cached_inputs == 0
        again = await service.embed(EmbedRequest(["a cat", "a dog"], no_store=True))
        assert again.cached_inputs == 1
        assert (await service.embed(EmbedRequest(["a dog"]))).cached_inputs == 0


async def test_a_text_has_the_same_int8_bytes_in_every_batch(model: FakeModel) -> None:
    async with serving(model) as service:
        alone = await service.embed(EmbedRequest(["a cat"], encoding="int8"))
        batch = await service.embed(EmbedRequest(["a dog", "a cat", "a far land"], encoding="int8"))
    assert batch.vectors.scale == alone.vectors.scale
    assert batch.vectors.data[8:16] == alone.vectors.data


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (EmbedRequest([]), InvalidArgument),
        (EmbedRequest([b"an image"], model="m"), InvalidArgument),
        (EmbedRequest(["a"], dimensions=9), InvalidArgument),
        (EmbedRequest(["a"], model="other"), NotFound),
    ],
)
async def test_requests_that_cannot_succeed_never_reach_the_model(
    model: FakeModel, request_: EmbedRequest, error: type[Exception]
) -> None:
    async with serving(model) as service:
        before = len(model.prepared)
        with pytest.raises(error):
            await service.embed(request_)
        assert len(model.prepared) == before


async def test_texts_are_reranked_in_pairs_with_the_query() -> None:
    model = FakeModel(model_info("pair", dimensions=1))
    async with serving(model) as service:
        result = await service.rerank(RerankRequest("why", ["a", "b", "a"]))
    assert model.prepared == [("why", "a"), ("why", "b"), ("why", "a")]
    assert result.scores[0] == result.scores[2] != result.scores[1]
    assert result.truncated == [False] * 3
    assert result.timings.preprocess > 0


async def test_only_a_cross_encoder_reranks(model: FakeModel) -> None:
    async with serving(model) as service:
        with pytest.raises(FailedPrecondition):
            await service.rerank(RerankRequest("why", ["a"]))
        with pytest.raises(InvalidArgument) as refused:
            await service.rerank(RerankRequest("why", ["a"], model="m"))
    assert refused.value.reason == "WRONG_MODALITY"


async def test_texts_are_tokenised_by_a_model_that_takes_text(model: FakeModel) -> None:
    async with serving(model) as service:
        info, tokens = await service.tokenize("", ["a cat", LONG])
        with pytest.raises(InvalidArgument):
            await service.tokenize("", [])
    assert (info.name, tokens[0].starts) == ("fake", [0, 2])
    assert [one.count for one in tokens] == [2, 10]
    async with serving(FakeModel(model_info("image"))) as service:
        with pytest.raises(InvalidArgument, match="does not take text"):
            await service.tokenize("m", ["a"])


async def test_token_ids_become_texts(model: FakeModel) -> None:
    async with serving(model) as service:
        info, texts = await service.detokenize("", [[97, 32, 98], []])
        assert (info.name, texts) == ("fake", ["a b", ""])
        with pytest.raises(InvalidArgument) as refused:
            await service.detokenize("", [[97], [97, 200]])
        assert (refused.value.reason, refused.value.field) == ("UNKNOWN_TOKEN", "token_ids[1]")
        with pytest.raises(InvalidArgument):
            await service.detokenize("", [])
    async with serving(FakeModel(model_info("image"))) as service:
        with pytest.raises(InvalidArgument, match="does not take text"):
            await service.detokenize("m", [[1]])


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
async def test_readings_are_the_same_for_computed_and_for_cached_texts(cache_bytes: int) -> None:
    tokenizer = word_piece_tokenizer(["a", "cat", "sees"])
    tokenizer.enable_truncation(6)
    texts = ["a cat", "猫", "a cat sees 猫 a cat"]
    async with serving(BagOfTokens(tokenizer), cache_bytes) as service:
        first = await service.embed(EmbedRequest(texts))
        again = await service.embed(EmbedRequest(texts))
    assert again.readings == first.readings
    readings = [reading for reading in first.readings if reading]
    assert [one.readable for one in readings] == [True, False, True]
    assert [one.unread for one in readings] == [(), ((0, 1),), ((11, 12),)]
    assert [(one.end, one.length) for one in readings] == [(5, 5), (1, 1), (12, 18)]


async def test_inputs_other_than_texts_have_no_reading() -> None:
    async with serving(FakeModel(model_info("image"))) as service:
        result = await service.embed(EmbedRequest([GIF]))
    assert result.readings == [None]
