from typing import Any

import grpc
import numpy as np
import pytest

from memetwin.embedder.v1 import embedder_pb2
from services.errors import FailedPrecondition, Unavailable
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.types import TextModel, TextReading
from tests.fakes.grpc import FakeChannel, rpc_error

ROWS = np.arange(6, dtype="<f4").reshape(2, 3)
TEXT, IMAGE = embedder_pb2.MODALITY_TEXT, embedder_pb2.MODALITY_IMAGE


def client(*replies: Any) -> tuple[EmbedderClient, Any]:
    """A client whose calls get these replies in order; an exception is raised."""
    pending = list(replies)

    def answer(method: str, request: Any) -> Any:
        reply = pending.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    channel: Any = FakeChannel(answer)
    return EmbedderClient(channel), channel


def embedded(rows: Any = ROWS, **more: Any) -> embedder_pb2.EmbedResponse:
    return embedder_pb2.EmbedResponse(
        vectors=rows.tobytes(), dimensions=3, model="m", model_digest="d", **more
    )


async def test_queries_and_documents_are_embedded_for_their_task() -> None:
    embedder, channel = client(embedded(), embedded(), embedded())
    vectors = await embedder.embed_queries(["a", "b"])
    assert np.array_equal(vectors.rows, ROWS)
    assert (vectors.model, vectors.digest) == ("m", "d")
    await embedder.embed_documents(["a", "b"])
    await embedder.embed_documents(["a", "b"], bulk=True)
    query, document, bulk = channel.requests
    assert [one.text for one in query.inputs] == ["a", "b"]
    assert query.task == embedder_pb2.TASK_QUERY
    assert document.task == bulk.task == embedder_pb2.TASK_DOCUMENT
    assert document.priority == embedder_pb2.PRIORITY_INTERACTIVE
    assert bulk.priority == embedder_pb2.PRIORITY_BULK


async def test_images_are_not_normalised() -> None:
    embedder, channel = client(embedded(ROWS[:1]))
    assert (await embedder.embed_image(b"file")).rows.shape == (1, 3)
    assert channel.requests[0].inputs[0].image == b"file"
    assert channel.requests[0].normalize is False
    assert channel.requests[0].no_store is False


async def test_the_embedder_is_told_not_to_cache_an_image() -> None:
    embedder, channel = client(embedded(ROWS[:1]))
    await embedder.embed_image(b"file", no_store=True)
    assert channel.requests[0].no_store is True


async def test_a_text_is_embedded_as_an_image_if_the_model_reads_texts() -> None:
    def models(*modalities: Any) -> embedder_pb2.ListModelsResponse:
        image = embedder_pb2.Model(
            name="clip", digest="c", modalities=modalities, default_for=[IMAGE]
        )
        return embedder_pb2.ListModelsResponse(
            models=[embedder_pb2.Model(name="text", modalities=[TEXT]), image]
        )

    embedder, channel = client(models(IMAGE), models(IMAGE, TEXT), embedded(ROWS[:1]))
    assert await embedder.embed_text_as_image("cat") is None
    assert await embedder.embed_text_as_image("cat") is not None
    assert (channel.requests[-1].model, channel.requests[-1].normalize) == ("clip", False)


async def test_without_an_image_model_that_is_ready_it_is_unavailable() -> None:
    loading = embedder_pb2.Model(name="clip", default_for=[IMAGE])
    embedder, _ = client(embedder_pb2.ListModelsResponse(models=[loading]))
    with pytest.raises(Unavailable) as caught:
        await embedder.image_model_digest()
    assert caught.value.reason == "NO_PICTURE_MODEL"


async def test_usage_is_the_sum_of_the_tokens() -> None:
    embedder, channel = client(embedded(tokens=[3, 4]))
    vectors, tokens = await embedder.embed_with_usage(["a", "b"], "m", 3)
    assert (vectors.rows.shape, tokens) == ((2, 3), 7)
    assert (channel.requests[0].model, channel.requests[0].dimensions) == ("m", 3)


async def test_readings_include_the_part_that_the_model_cuts() -> None:
    readings = [
        embedder_pb2.Reading(readable=True, end=3),
        embedder_pb2.Reading(end=9, cut=4, unread_starts=[0, 5], unread_ends=[2, 6]),
    ]
    embedder, _ = client(embedded(readings=readings))
    vectors = await embedder.embed_queries(["a", "b"])
    unread = ((0, 2), (5, 6), (9, 13))
    assert vectors.readings == (TextReading(), TextReading(False, True, unread))
    assert vectors.readable
    assert not vectors.only(1).readable
    assert vectors.only(1).rows.tolist() == vectors.rows[1:].tolist()


async def test_the_text_model_must_be_loaded() -> None:
    model = embedder_pb2.Model(digest="d", dimensions=3, max_tokens=256)
    loaded = embedder_pb2.Model(
        digest="d", dimensions=3, max_tokens=256, document_prompt="passage: ", ready=True
    )
    embedder, _ = client(
        embedder_pb2.GetModelResponse(model=model), embedder_pb2.GetModelResponse(model=loaded)
    )
    with pytest.raises(Unavailable):
        await embedder.text_model()
    assert await embedder.text_model() == TextModel("d", 3, 256, "passage: ")


async def test_tokens_and_scores_are_returned() -> None:
    tokens = [embedder_pb2.Tokens(starts=[0, 2]), embedder_pb2.Tokens(starts=[0])]
    embedder, _ = client(
        embedder_pb2.TokenizeResponse(results=tokens), embedder_pb2.RerankResponse(scores=[0.5, 2])
    )
    assert [list(one) for one in await embedder.token_starts(["a b", "c"])] == [[0, 2], [0]]
    assert list(await embedder.rerank("a", ["b", "c"])) == [0.5, 2]


async def test_text_models_are_those_that_read_texts() -> None:
    models = [
        embedder_pb2.Model(name="text", modalities=[TEXT]),
        embedder_pb2.Model(name="image", modalities=[IMAGE]),
        embedder_pb2.Model(name="clip", modalities=[IMAGE, TEXT]),
    ]
    embedder, _ = client(embedder_pb2.ListModelsResponse(models=models))
    assert await embedder.text_models() == ["text", "clip"]


async def test_errors_are_failures_of_their_reason() -> None:
    embedder, _ = client(
        rpc_error(grpc.StatusCode.FAILED_PRECONDITION, "NO_RERANK_MODEL"),
        rpc_error(grpc.StatusCode.UNAVAILABLE),
    )
    with pytest.raises(FailedPrecondition) as caught:
        await embedder.rerank("a", ["b"])
    assert caught.value.reason == "NO_RERANK_MODEL"
    with pytest.raises(Unavailable):
        await embedder.embed_queries(["a"])


async def test_token_ids_become_texts() -> None:
    embedder, channel = client(embedder_pb2.DetokenizeResponse(texts=["a", "b"]))
    assert await embedder.detokenize([[1, 2], [3]], "m") == ["a", "b"]
    [request] = channel.requests
    assert ([list(one.ids) for one in request.token_ids], request.model) == ([[1, 2], [3]], "m")
