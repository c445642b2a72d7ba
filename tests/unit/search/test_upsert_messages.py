from collections.abc import AsyncIterator
from typing import Any

import pytest

from memetwin.search.v1 import search_pb2
from services.errors import Failure, InvalidArgument, NotFound
from services.search.service import SearchService
from services.search.types import Document
from services.search.upsert_messages import UpsertStreamReader
from tests.fakes.search import collection, vector


def message(key: str, *numbers: float, **options: Any) -> search_pb2.Document:
    return search_pb2.Document(id=key, vector=vector(*numbers).tobytes(), **options)


def reader(service: SearchService, *requests: dict[str, Any]) -> UpsertStreamReader:
    async def send() -> AsyncIterator[search_pb2.UpsertStreamRequest]:
        for request in requests:
            yield search_pb2.UpsertStreamRequest(**request)

    return UpsertStreamReader(send(), service)


async def test_invalid_documents_are_failures_among_the_others(service: SearchService) -> None:
    await service.create(collection())
    documents = [
        message("a", 1, 0),
        message("b", 1),
        message("", 1, 0),
        message("a", 1, 0),
        message("c", 1, 0, ttl=-1),
    ]
    one = reader(service, {"collection": "c", "documents": documents})
    [batch] = [items async for items in one.batches()]
    assert [key for key, _ in batch] == ["a", "b", "", "a", "c"]
    outcomes = [item.reason if isinstance(item, Failure) else item.id for _, item in batch]
    assert outcomes == ["a", "WRONG_DIMENSIONS", "BAD_ID", "DUPLICATE_ID", "BAD_TTL"]
    written = [item for _, item in batch if isinstance(item, Document)]
    assert await one.write(written) == [True]
    assert (await service.get("c", ["a"]))[0]


async def test_a_stream_writes_to_one_collection(service: SearchService) -> None:
    await service.create(collection())
    first = {"collection": "c", "documents": [message("a", 1, 0)]}
    same = [items async for items in reader(service, first, {}, {"collection": "c"}).batches()]
    assert [len(items) for items in same] == [1, 0, 0]
    with pytest.raises(InvalidArgument) as caught:
        _ = [items async for items in reader(service, first, {"collection": "d"}).batches()]
    assert caught.value.reason == "BAD_SEQUENCE"


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"collection": ""}, "BAD_COLLECTION_NAME"),
        ({"collection": "none"}, "COLLECTION_NOT_FOUND"),
        ({"collection": "c", "model_digest": "m2"}, "MODEL_MISMATCH"),
        ({"collection": "c", "documents": [message("a")] * 5001}, "TOO_MANY_DOCUMENTS"),
    ],
)
async def test_a_stream_names_its_collection_and_model(
    service: SearchService, request_: dict[str, Any], reason: str
) -> None:
    await service.create(collection(model_digest="m1"))
    with pytest.raises(Failure) as caught:
        _ = [items async for items in reader(service, request_).batches()]
    assert caught.value.reason == reason
    assert isinstance(caught.value, NotFound) == (reason == "COLLECTION_NOT_FOUND")
