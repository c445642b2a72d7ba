"""The search service as the gateway calls it: plain data in and out."""

import contextlib
from collections.abc import Sequence

import grpc
import numpy as np
from numpy.typing import NDArray

from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services import deadlines
from services.errors import AlreadyExists, InvalidArgument, NotFound
from services.gateway.backends.fields import FIELD_TYPES, METRIC_NUMBERS, from_field, to_field
from services.gateway.backends.rpc import calling, is_serving
from services.gateway.backends.types import Document, Hit, Query, Vectors


class Search:
    """The search service behind a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._stub = search_pb2_grpc.SearchServiceStub(channel)

    async def ready(self) -> bool:
        """Say whether the service answers and its Redis does."""
        return await is_serving(self._channel, "memetwin.search.v1.SearchService")

    async def ensure(
        self,
        name: str,
        vectors: Vectors,
        fields: dict[str, str],
        metric: str = "cosine",
        *,
        index_text: bool = False,
    ) -> None:
        """Create a collection for such vectors unless it exists; ``fields`` maps names to types.

        ``index_text`` says whether its documents are asked for by words.
        """
        collection = search_pb2.Collection(
            name=name,
            dimensions=vectors.rows.shape[1],
            metric=METRIC_NUMBERS[metric],
            fields=[
                search_pb2.Field(name=field, type=FIELD_TYPES[kind])
                for field, kind in fields.items()
            ],
            model_digest=vectors.digest,
            index_text=index_text,
        )
        with contextlib.suppress(AlreadyExists):
            async with calling("search"):
                await self._stub.CreateCollection(
                    search_pb2.CreateCollectionRequest(collection=collection),
                    timeout=deadlines.time_left(),
                )

    async def upsert(self, collection: str, documents: Sequence[Document], digest: str) -> None:
        """Write documents, all or nothing."""
        request = search_pb2.UpsertDocumentsRequest(
            collection=collection,
            model_digest=digest,
            documents=[
                search_pb2.Document(
                    id=document.id,
                    vector=document.vector.astype("<f4").tobytes(),
                    fields={name: to_field(value) for name, value in document.fields.items()},
                    text=document.text,
                    payload=document.payload,
                    ttl=document.ttl,
                )
                for document in documents
            ],
        )
        async with calling("search"):
            await self._stub.UpsertDocuments(request, timeout=deadlines.time_left())

    async def delete(self, collection: str, ids: Sequence[str]) -> None:
        """Delete documents by id; what does not exist is gone already."""
        if not ids:
            return
        request = search_pb2.DeleteDocumentsRequest(
            collection=collection, ids=search_pb2.Ids(values=ids)
        )
        with contextlib.suppress(NotFound):
            async with calling("search"):
                await self._stub.DeleteDocuments(request, timeout=deadlines.time_left())

    async def vectors(self, collection: str, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the vectors of those of these documents that exist, by their ids."""
        if not ids:
            return {}
        request = search_pb2.GetDocumentsRequest(collection=collection, ids=ids, return_vector=True)
        try:
            async with calling("search"):
                reply = await self._stub.GetDocuments(request, timeout=deadlines.time_left())
        except NotFound:
            return {}
        return {one.id: np.frombuffer(one.vector, "<f4") for one in reply.documents}

    async def declared(self, collection: str) -> dict[str, str] | None:
        """Return a collection's fields, types by names, or None if there is no such collection."""
        request = search_pb2.GetCollectionRequest(name=collection)
        try:
            async with calling("search"):
                reply = await self._stub.GetCollection(request, timeout=deadlines.time_left())
        except NotFound:
            return None
        kinds = {number: name for name, number in FIELD_TYPES.items()}
        return {one.name: kinds.get(one.type, "text") for one in reply.collection.fields}

    async def declare(self, collection: str, fields: dict[str, str]) -> None:
        """Declare more fields of a collection, unless it has them with other types, or too many."""
        request = search_pb2.UpdateCollectionRequest(
            name=collection,
            add_fields=[
                search_pb2.Field(name=name, type=FIELD_TYPES[kind]) for name, kind in fields.items()
            ],
        )
        with contextlib.suppress(AlreadyExists, InvalidArgument):
            async with calling("search"):
                await self._stub.UpdateCollection(request, timeout=deadlines.time_left())

    async def missing(self, collection: str, ids: Sequence[str]) -> list[str]:
        """Return which of these documents do not exist."""
        request = search_pb2.GetDocumentsRequest(collection=collection, ids=ids)
        try:
            async with calling("search"):
                reply = await self._stub.GetDocuments(request, timeout=deadlines.time_left())
        except NotFound:
            return list(ids)
        return list(reply.missing)

    async def search(self, queries: Sequence[Query], digest: str) -> list[list[Hit]]:
        """Answer queries in one trip, one list of hits each.

        Raises:
            NotFound: a collection does not exist.
        """
        request = search_pb2.SearchRequest(
            queries=[_to_query(query) for query in queries], model_digest=digest
        )
        async with calling("search"):
            reply = await self._stub.Search(request, timeout=deadlines.time_left())
        return [
            [_to_hit(hit, by_words=bool(query.text)) for hit in result.hits]
            for query, result in zip(queries, reply.results, strict=True)
        ]


def _to_query(query: Query) -> search_pb2.Query:
    conditions = [
        search_pb2.Filter(tag=search_pb2.TagCondition(field=name, any_of=[value]))
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
        ef=query.effort,
    )
    if query.text:
        message.hybrid.vector, message.hybrid.text = vector, query.text
        message.hybrid.depth = query.depth
    else:
        message.vector = vector
    if conditions:
        message.filter.all_of.filters.extend(conditions)
    return message


def _to_hit(hit: search_pb2.Hit, *, by_words: bool) -> Hit:
    score = hit.score if by_words else hit.similarity
    fields = {name: from_field(value) for name, value in hit.fields.items()}
    return Hit(
        hit.id,
        hit.similarity,
        hit.distance,
        fields,
        hit.text,
        hit.payload,
        score=score,
        text_score=hit.text_score,
        vector=np.frombuffer(hit.vector, "<f4") if hit.vector else None,
    )
