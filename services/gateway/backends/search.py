"""The client of search: plain data in and out.

Every call ends by the deadline of the request that it is part of. It raises search's Failure, or
Unavailable if search is unreachable.
"""

import contextlib
from collections.abc import Sequence

import grpc
import numpy as np
from numpy.typing import NDArray

from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services import deadlines
from services.errors import AlreadyExists, InvalidArgument, NotFound
from services.gateway.backends.fields import FIELD_TYPES, METRIC_NUMBERS, from_field, to_field
from services.gateway.backends.rpc import Peer, is_serving
from services.gateway.backends.types import CollectionSpec, Document, Hit, Query

_TYPE_NAMES = {number: name for name, number in FIELD_TYPES.items()}


class SearchClient:
    """Calls search through a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self._peer = Peer("search")
        self._stub = search_pb2_grpc.SearchServiceStub(channel)

    async def ready(self) -> bool:
        """Return whether search and its Redis answer."""
        return await is_serving(self.channel, "memetwin.search.v1.SearchService")

    async def ensure(self, spec: CollectionSpec) -> None:
        """Create a collection unless one with this name exists."""
        collection = search_pb2.Collection(
            name=spec.name,
            dimensions=spec.dimensions,
            metric=METRIC_NUMBERS[spec.metric],
            fields=_declarations(spec.fields),
            model_digest=spec.model_digest,
            index_text=spec.index_text,
        )
        request = search_pb2.CreateCollectionRequest(collection=collection)
        with contextlib.suppress(AlreadyExists):
            async with self._peer.call():
                await self._stub.CreateCollection(request, timeout=deadlines.time_left())

    async def field_types(self, collection: str) -> dict[str, str] | None:
        """Return the type of each declared field of a collection; None if it does not exist."""
        request = search_pb2.GetCollectionRequest(name=collection)
        try:
            async with self._peer.call():
                reply = await self._stub.GetCollection(request, timeout=deadlines.time_left())
        except NotFound:
            return None
        return {one.name: _TYPE_NAMES.get(one.type, "text") for one in reply.collection.fields}

    async def model_digest(self, collection: str) -> str:
        """Return the digest of a collection's model; empty if it has none or does not exist."""
        model = await self.model(collection)
        return model[0] if model else ""

    async def model(self, collection: str) -> tuple[str, int] | None:
        """Return the digest of a collection's model, and the length of its vectors.

        The result is None if the collection does not exist.
        """
        request = search_pb2.GetCollectionRequest(name=collection)
        try:
            async with self._peer.call():
                reply = await self._stub.GetCollection(request, timeout=deadlines.time_left())
        except NotFound:
            return None
        return reply.collection.model_digest, reply.collection.dimensions

    async def assign_alias(self, alias: str, collection: str) -> None:
        """Point an alias at a collection.

        Raises:
            AlreadyExists: a collection has this name.
            NotFound: the collection does not exist.
        """
        request = search_pb2.AssignAliasRequest(alias=alias, collection=collection)
        async with self._peer.call():
            await self._stub.AssignAlias(request, timeout=deadlines.time_left())

    async def add_fields(self, collection: str, fields: dict[str, str]) -> None:
        """Declare more fields of a collection.

        It declares nothing if the collection has one of them with another type already, or would
        have too many fields.
        """
        request = search_pb2.UpdateCollectionRequest(
            name=collection, add_fields=_declarations(fields)
        )
        with contextlib.suppress(AlreadyExists, InvalidArgument):
            async with self._peer.call():
                await self._stub.UpdateCollection(request, timeout=deadlines.time_left())

    async def upsert(self, collection: str, documents: Sequence[Document], digest: str) -> None:
        """Write all or none of the documents, whose vectors the model ``digest`` computed.

        Raises:
            NotFound: the collection does not exist.
        """
        request = search_pb2.UpsertDocumentsRequest(
            collection=collection, model_digest=digest, documents=map(_to_document, documents)
        )
        async with self._peer.call():
            await self._stub.UpsertDocuments(request, timeout=deadlines.time_left())

    async def upsert_or_create(self, spec: CollectionSpec, documents: Sequence[Document]) -> None:
        """Write documents to a collection; create it first if it does not exist."""
        try:
            await self.upsert(spec.name, documents, spec.model_digest)
        except NotFound:
            await self.ensure(spec)
            await self.upsert(spec.name, documents, spec.model_digest)

    async def delete(self, collection: str, ids: Sequence[str]) -> None:
        """Delete documents by id; documents or collections that do not exist are ignored."""
        if not ids:
            return
        request = search_pb2.DeleteDocumentsRequest(
            collection=collection, ids=search_pb2.Ids(values=ids)
        )
        with contextlib.suppress(NotFound):
            async with self._peer.call():
                await self._stub.DeleteDocuments(request, timeout=deadlines.time_left())

    async def vectors(self, collection: str, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the vectors, float32 [dimensions], of the documents that exist, by id."""
        if not ids:
            return {}
        request = search_pb2.GetDocumentsRequest(collection=collection, ids=ids, return_vector=True)
        try:
            async with self._peer.call():
                reply = await self._stub.GetDocuments(request, timeout=deadlines.time_left())
        except NotFound:
            return {}
        return {one.id: np.frombuffer(one.vector, "<f4") for one in reply.documents}

    async def missing(self, collection: str, ids: Sequence[str]) -> list[str]:
        """Return the ids of the documents that do not exist."""
        request = search_pb2.GetDocumentsRequest(collection=collection, ids=ids)
        try:
            async with self._peer.call():
                reply = await self._stub.GetDocuments(request, timeout=deadlines.time_left())
        except NotFound:
            return list(ids)
        return list(reply.missing)

    async def search(self, queries: Sequence[Query], digest: str) -> list[list[Hit]]:
        """Run queries in one call; return the hits of each.

        Raises:
            NotFound: a collection does not exist.
            FailedPrecondition: a collection holds vectors of a model other than ``digest``.
        """
        request = search_pb2.SearchRequest(queries=map(_to_query, queries), model_digest=digest)
        async with self._peer.call():
            reply = await self._stub.Search(request, timeout=deadlines.time_left())
        return [
            [_from_hit(hit, hybrid=bool(query.text)) for hit in result.hits]
            for query, result in zip(queries, reply.results, strict=True)
        ]


def _declarations(fields: dict[str, str]) -> list[search_pb2.Field]:
    return [search_pb2.Field(name=name, type=FIELD_TYPES[kind]) for name, kind in fields.items()]


def _to_document(document: Document) -> search_pb2.Document:
    return search_pb2.Document(
        id=document.id,
        vector=document.vector.astype("<f4").tobytes(),
        fields={name: to_field(value) for name, value in document.fields.items()},
        text=document.text,
        payload=document.payload,
        ttl=document.ttl,
    )


def _to_query(query: Query) -> search_pb2.Query:
    conditions = [
        search_pb2.Filter(
            tag=search_pb2.TagCondition(
                field=name, any_of=[value] if isinstance(value, str) else value
            )
        )
        for name, value in query.tags.items()
    ]
    if query.filter is not None and query.filter.WhichOneof("condition"):
        conditions.append(query.filter)
    vector = query.vector.astype("<f4").tobytes()
    message = search_pb2.Query(
        collection=query.collection,
        limit=query.limit,
        return_text=query.with_text,
        return_no_fields=not query.with_text,
        return_vector=query.with_vector,
        ef=query.ef,
    )
    if query.text:
        message.hybrid.vector, message.hybrid.text = vector, query.text
        message.hybrid.depth = query.depth
    else:
        message.vector = vector
    if conditions:
        message.filter.all_of.filters.extend(conditions)
    return message


def _from_hit(hit: search_pb2.Hit, *, hybrid: bool) -> Hit:
    return Hit(
        hit.id,
        hit.similarity,
        hit.distance,
        {name: from_field(value) for name, value in hit.fields.items()},
        hit.text,
        hit.payload,
        score=hit.score if hybrid else hit.similarity,
        text_score=hit.text_score,
        vector=np.frombuffer(hit.vector, "<f4") if hit.vector else None,
    )
