"""The client of search for whole collections: copies one, and replaces it with its copy."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services import deadlines
from services.errors import AlreadyExists, NotFound
from services.gateway.backends.rpc import Peer

_PAGE_SIZE = 1000


@dataclass(frozen=True)
class CollectionInfo:
    """A collection of search: its own name (never an alias), its model, its size, its aliases.

    ``dimensions`` is the length of its vectors.
    """

    name: str
    model_digest: str
    documents: int
    aliases: tuple[str, ...] = ()
    dimensions: int = 0


@dataclass(frozen=True)
class CopiedDocument:
    """A document to copy: what its vector is computed from, and the message to send on."""

    id: str
    text: str
    payload: bytes
    message: Any


class CollectionClient:
    """Calls search through a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._peer = Peer("search")
        self._stub = search_pb2_grpc.SearchServiceStub(channel)

    async def describe(self, name: str) -> CollectionInfo | None:
        """Return the collection with this name or alias, or None."""
        try:
            return _info(await self._get(name))
        except NotFound:
            return None

    async def list_all(self) -> list[CollectionInfo]:
        """Return all collections, also those that memetwin creates for its own use."""
        found: list[CollectionInfo] = []
        request = search_pb2.ListCollectionsRequest(page_size=_PAGE_SIZE, include_internal=True)
        while True:
            async with self._peer.call():
                reply = await self._stub.ListCollections(request, timeout=deadlines.time_left())
            found += map(_info, reply.collections)
            request.page_token = reply.next_page_token
            if not reply.next_page_token:
                return found

    async def create_like(self, source: str, name: str, digest: str, dimensions: int) -> None:
        """Create an empty collection with the settings of another one, for another model.

        If a collection with that name exists, it stays unchanged.

        Raises:
            NotFound: the source does not exist.
        """
        collection = await self._get(source)
        for output in ("document_count", "health", "aliases"):
            collection.ClearField(output)
        collection.name, collection.model_digest = name, digest
        collection.dimensions = dimensions
        create = search_pb2.CreateCollectionRequest(collection=collection)
        with contextlib.suppress(AlreadyExists):
            async with self._peer.call():
                await self._stub.CreateCollection(create, timeout=deadlines.time_left())

    async def page(self, name: str, size: int, token: str) -> tuple[list[CopiedDocument], str]:
        """Return a page of documents in the order of their ids, and the next page's token.

        Raises:
            NotFound: the collection does not exist.
        """
        request = search_pb2.ListDocumentsRequest(collection=name, page_size=size, page_token=token)
        async with self._peer.call():
            reply = await self._stub.ListDocuments(request, timeout=deadlines.time_left())
        documents = [CopiedDocument(one.id, one.text, one.payload, one) for one in reply.documents]
        return documents, reply.next_page_token

    async def outdated(self, name: str, documents: Sequence[CopiedDocument]) -> set[str]:
        """Return the ids of the documents that a collection lacks, or has with other content."""
        if not documents:
            return set()
        ids = [one.id for one in documents]
        request = search_pb2.GetDocumentsRequest(collection=name, ids=ids)
        async with self._peer.call():
            reply = await self._stub.GetDocuments(request, timeout=deadlines.time_left())
        found = {one.id: one for one in reply.documents}
        return {one.id for one in documents if found.get(one.id) != one.message}

    async def write(
        self,
        name: str,
        documents: Sequence[CopiedDocument],
        rows: NDArray[np.float32],
        digest: str,
    ) -> None:
        """Write documents with new vectors, float32 [n, dimensions], of the model ``digest``."""
        request = search_pb2.UpsertDocumentsRequest(collection=name, model_digest=digest)
        for document, row in zip(documents, rows, strict=True):
            message = request.documents.add()
            message.CopyFrom(document.message)
            message.vector = row.astype("<f4").tobytes()
        async with self._peer.call():
            await self._stub.UpsertDocuments(request, timeout=deadlines.time_left())

    async def delete(self, name: str) -> None:
        """Delete a collection. A collection that does not exist is not an error."""
        request = search_pb2.DeleteCollectionRequest(name=name)
        with contextlib.suppress(NotFound):
            async with self._peer.call():
                await self._stub.DeleteCollection(request, timeout=deadlines.time_left())

    async def _get(self, name: str) -> Any:
        request = search_pb2.GetCollectionRequest(name=name)
        async with self._peer.call():
            reply = await self._stub.GetCollection(request, timeout=deadlines.time_left())
        return reply.collection


def _info(message: Any) -> CollectionInfo:
    return CollectionInfo(
        message.name,
        message.model_digest,
        message.document_count,
        tuple(message.aliases),
        message.dimensions,
    )
