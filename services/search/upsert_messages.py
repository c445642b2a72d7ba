"""Reads the messages of UpsertStream; a document that is not valid does not affect the others."""

from collections.abc import AsyncIterator, Sequence

from memetwin.search.v1 import search_pb2
from services.errors import Failure, InvalidArgument
from services.search.messages import read_document
from services.search.service import SearchService
from services.search.types import Collection, Document
from services.search.upsert_stream import Item
from services.search.validation import (
    MAX_DOCUMENTS,
    check_collection_name,
    check_document,
    check_max_count,
    check_model_digest,
    check_unique,
)


class UpsertStreamReader:
    """Reads one stream, which writes to one collection."""

    def __init__(
        self, requests: AsyncIterator[search_pb2.UpsertStreamRequest], service: SearchService
    ) -> None:
        self._requests = requests
        self._service = service
        self._name = ""

    async def batches(self) -> AsyncIterator[Sequence[Item]]:
        """Yield the documents of each message. Raises InvalidArgument for a message as a whole."""
        async for request in self._requests:
            if not self._name:
                await self._begin(request)
            elif request.collection not in ("", self._name):
                raise InvalidArgument(
                    "BAD_SEQUENCE",
                    "A stream can write to one collection only; open another stream.",
                    field="collection",
                )
            check_max_count(request.documents, MAX_DOCUMENTS, "documents")
            collection = await self._service.collection(self._name, cached=True)
            seen: set[str] = set()
            yield [
                (message.id, _read_document(message, collection, f"documents[{number}]", seen))
                for number, message in enumerate(request.documents)
            ]

    async def write(self, documents: Sequence[Document]) -> list[bool]:
        """Write documents; return for each whether it is new."""
        collection = await self._service.collection(self._name, cached=True)
        return await self._service.upsert(collection, documents)

    async def _begin(self, request: search_pb2.UpsertStreamRequest) -> None:
        """Check the collection and the model that the first message names."""
        check_collection_name(request.collection, "collection")
        collection = await self._service.collection(request.collection)
        check_model_digest(request.model_digest, collection)
        self._name = request.collection


def _read_document(
    message: search_pb2.Document, collection: Collection, path: str, seen: set[str]
) -> Document | Failure:
    try:
        document = read_document(message, collection, path)
        check_document(document, collection, path)
        check_unique(document.id, seen, f"{path}.id")
    except Failure as failure:
        return failure
    return document
