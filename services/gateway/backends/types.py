"""The other services, as the gateway's core sees them: arrays in and out, failures as ours."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services import deadlines, error_details
from services.errors import AlreadyExists, InvalidArgument, NotFound, Unavailable

METRICS = {
    "cosine": search_pb2.METRIC_COSINE,
    "ip": search_pb2.METRIC_IP,
    "l2": search_pb2.METRIC_L2,
}
_FIELD_TYPES = {
    "number": search_pb2.FIELD_TYPE_NUMBER,
    "tag": search_pb2.FIELD_TYPE_TAG,
    "geo": search_pb2.FIELD_TYPE_GEO,
}
_FIELD_TYPE_OF_VALUE = {"number": "number", "string": "tag", "strings": "tag", "geo": "geo"}
# What a field's value may be: a number, a tag, tags, or a place as {"lat": …, "lon": …}.
Value = float | str | list[str] | dict[str, float]


@dataclass(frozen=True)
class Vectors:
    """What the embedder made of a batch.

    Attributes:
        rows: float32 [n, dimensions].
        model: name of the model that made them.
        digest: identifies that model; vectors of two digests never mix.
    """

    rows: NDArray[np.float32]
    model: str
    digest: str


@dataclass(frozen=True)
class TextModel:
    """A model for texts; ``none`` is a batch of no vectors of its kind."""

    max_tokens: int
    none: Vectors


@dataclass(frozen=True)
class Document:
    """A document of a search collection; ``vector`` is float32 [dimensions]."""

    id: str
    vector: NDArray[np.float32]
    fields: dict[str, Value] = field(default_factory=dict)
    text: str = ""
    payload: bytes = b""
    ttl: float = 0.0


@dataclass(frozen=True)
class Query:
    """A question to one collection; ``vector`` is float32 [dimensions].

    ``filter`` is a Filter message as a caller sent it; ``tags`` must hold besides. With a ``text``
    it is asked by words too, and ``depth`` hits of each are joined. ``effort`` is how many
    candidates are looked at, 0 for as many as the collection says.
    """

    collection: str
    vector: NDArray[np.float32]
    limit: int
    tags: dict[str, str] = field(default_factory=dict)
    filter: Any = None
    with_text: bool = False
    text: str = ""
    depth: int = 100
    with_vector: bool = False
    effort: int = 0


@dataclass(frozen=True)
class Hit:
    """A document that was found.

    ``score`` ranks hits that were asked for by words too, else it is the similarity; ``vector`` is
    float32 [dimensions] if it was asked for.
    """

    id: str
    similarity: float
    distance: float
    fields: dict[str, Value]
    text: str
    payload: bytes
    score: float = 0.0
    text_score: float = 0.0
    vector: NDArray[np.float32] | None = None


@contextlib.asynccontextmanager
async def _calling(peer: str) -> AsyncIterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise error_details.from_rpc(error, peer) from error


async def _healthy(channel: grpc.aio.Channel, service: str) -> bool:
    request = health_pb2.HealthCheckRequest(service=service)
    stub: Any = health_pb2_grpc.HealthStub(channel)
    reply = await stub.Check(request, timeout=1.0)
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


class Embedder:
    """The embedder service behind a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._stub = embedder_pb2_grpc.EmbedderServiceStub(channel)

    async def ready(self) -> bool:
        """Say whether the service answers and its models are loaded."""
        return await _healthy(self._channel, "memetwin.embedder.v1.EmbedderService")

    async def questions(self, texts: Sequence[str]) -> Vectors:
        """Embed texts that look something up: unit vectors, ahead of bulk work."""
        return await self._embed(
            [embedder_pb2.Input(text=text) for text in texts], task=embedder_pb2.TASK_QUERY
        )

    async def passages(self, texts: Sequence[str], *, bulk: bool = False) -> Vectors:
        """Embed texts that are found: unit vectors; ``bulk`` lets questions go first."""
        priority = embedder_pb2.PRIORITY_BULK if bulk else embedder_pb2.PRIORITY_INTERACTIVE
        return await self._embed(
            [embedder_pb2.Input(text=text) for text in texts],
            task=embedder_pb2.TASK_DOCUMENT,
            priority=priority,
        )

    async def rerank(self, question: str, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return how well texts answer a question, by a cross-encoder: scores [n].

        Raises:
            FailedPrecondition: no cross-encoder is served.
        """
        async with _calling("embedder"):
            reply = await self._stub.Rerank(
                embedder_pb2.RerankRequest(query=question, texts=texts),
                timeout=deadlines.time_left(),
            )
        return np.array(reply.scores)

    async def token_starts(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """Return where the tokens of each text begin, in code points."""
        async with _calling("embedder"):
            reply = await self._stub.Tokenize(
                embedder_pb2.TokenizeRequest(texts=texts), timeout=deadlines.time_left()
            )
        return [tokens.starts for tokens in reply.results]

    async def text_model(self) -> TextModel:
        """Return what there is to know of the model that embeds texts.

        Raises:
            Unavailable: it is still being loaded.
        """
        async with _calling("embedder"):
            reply = await self._stub.GetModel(
                embedder_pb2.GetModelRequest(), timeout=deadlines.time_left()
            )
        model = reply.model
        if not model.ready:
            raise Unavailable("MODEL_LOADING", "The model is being loaded.", retry_after=1.0)
        none = np.zeros((0, model.dimensions), np.float32)
        return TextModel(model.max_tokens, Vectors(none, model.name, model.digest))

    async def picture(self, image: bytes) -> Vectors:
        """Embed a picture file: one vector, as long as the model makes it."""
        return await self._embed([embedder_pb2.Input(image=image)], normalize=False)

    async def picture_digest(self) -> str:
        """Return the digest of the model that embeds pictures."""
        return (await self._picture_model()).digest

    async def words_for_pictures(self, text: str) -> Vectors | None:
        """Embed a text among pictures, or return None if the picture model takes no text."""
        model = await self._picture_model()
        if embedder_pb2.MODALITY_TEXT not in model.modalities:
            return None
        return await self._embed([embedder_pb2.Input(text=text)], model=model.name, normalize=False)

    async def counted(
        self, texts: Sequence[str], model: str, dimensions: int
    ) -> tuple[Vectors, int]:
        """Embed texts with a named model, cut to some dimensions; return the tokens too."""
        async with _calling("embedder"):
            reply = await self._stub.Embed(
                embedder_pb2.EmbedRequest(
                    inputs=[embedder_pb2.Input(text=text) for text in texts],
                    model=model,
                    dimensions=dimensions,
                ),
                timeout=deadlines.time_left(),
            )
        rows = np.frombuffer(reply.vectors, "<f4").reshape(len(texts), reply.dimensions)
        return Vectors(rows, reply.model, reply.model_digest), sum(reply.tokens)

    async def text_models(self) -> list[str]:
        """Return the names of the models that take texts."""
        async with _calling("embedder"):
            reply = await self._stub.ListModels(
                embedder_pb2.ListModelsRequest(), timeout=deadlines.time_left()
            )
        return [one.name for one in reply.models if embedder_pb2.MODALITY_TEXT in one.modalities]

    async def _picture_model(self) -> embedder_pb2.Model:
        async with _calling("embedder"):
            reply = await self._stub.ListModels(
                embedder_pb2.ListModelsRequest(), timeout=deadlines.time_left()
            )
        for model in reply.models:
            if embedder_pb2.MODALITY_IMAGE in model.default_for and model.digest:
                return model
        raise Unavailable(
            "NO_PICTURE_MODEL", "No model for pictures is ready.", field="image", retry_after=2.0
        )

    async def _embed(self, inputs: Sequence[embedder_pb2.Input], **options: Any) -> Vectors:
        async with _calling("embedder"):
            reply = await self._stub.Embed(
                embedder_pb2.EmbedRequest(inputs=inputs, **options), timeout=deadlines.time_left()
            )
        rows = np.frombuffer(reply.vectors, "<f4").reshape(len(inputs), reply.dimensions)
        return Vectors(rows, reply.model, reply.model_digest)


class Search:
    """The search service behind a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._stub = search_pb2_grpc.SearchServiceStub(channel)

    async def ready(self) -> bool:
        """Say whether the service answers and its Redis does."""
        return await _healthy(self._channel, "memetwin.search.v1.SearchService")

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
            metric=METRICS[metric],
            fields=[
                search_pb2.Field(name=field, type=_FIELD_TYPES[kind])
                for field, kind in fields.items()
            ],
            model_digest=vectors.digest,
            index_text=index_text,
        )
        with contextlib.suppress(AlreadyExists):
            async with _calling("search"):
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
        async with _calling("search"):
            await self._stub.UpsertDocuments(request, timeout=deadlines.time_left())

    async def delete(self, collection: str, ids: Sequence[str]) -> None:
        """Delete documents by id; what does not exist is gone already."""
        if not ids:
            return
        request = search_pb2.DeleteDocumentsRequest(
            collection=collection, ids=search_pb2.Ids(values=ids)
        )
        with contextlib.suppress(NotFound):
            async with _calling("search"):
                await self._stub.DeleteDocuments(request, timeout=deadlines.time_left())

    async def vectors(self, collection: str, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the vectors of those of these documents that exist, by their ids."""
        if not ids:
            return {}
        request = search_pb2.GetDocumentsRequest(collection=collection, ids=ids, return_vector=True)
        try:
            async with _calling("search"):
                reply = await self._stub.GetDocuments(request, timeout=deadlines.time_left())
        except NotFound:
            return {}
        return {one.id: np.frombuffer(one.vector, "<f4") for one in reply.documents}

    async def declared(self, collection: str) -> dict[str, str] | None:
        """Return a collection's fields, types by names, or None if there is no such collection."""
        request = search_pb2.GetCollectionRequest(name=collection)
        try:
            async with _calling("search"):
                reply = await self._stub.GetCollection(request, timeout=deadlines.time_left())
        except NotFound:
            return None
        kinds = {number: name for name, number in _FIELD_TYPES.items()}
        return {one.name: kinds.get(one.type, "text") for one in reply.collection.fields}

    async def declare(self, collection: str, fields: dict[str, str]) -> None:
        """Declare more fields of a collection, unless it has them with other types, or too many."""
        request = search_pb2.UpdateCollectionRequest(
            name=collection,
            add_fields=[
                search_pb2.Field(name=name, type=_FIELD_TYPES[kind])
                for name, kind in fields.items()
            ],
        )
        with contextlib.suppress(AlreadyExists, InvalidArgument):
            async with _calling("search"):
                await self._stub.UpdateCollection(request, timeout=deadlines.time_left())

    async def missing(self, collection: str, ids: Sequence[str]) -> list[str]:
        """Return which of these documents do not exist."""
        request = search_pb2.GetDocumentsRequest(collection=collection, ids=ids)
        try:
            async with _calling("search"):
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
        async with _calling("search"):
            reply = await self._stub.Search(request, timeout=deadlines.time_left())
        return [
            [_to_hit(hit, by_words=bool(query.text)) for hit in result.hits]
            for query, result in zip(queries, reply.results, strict=True)
        ]


class Neighbours:
    """Both services together."""

    def __init__(self, embedder: Embedder, search: Search) -> None:
        self.embedder = embedder
        self.search = search

    async def ready(self) -> bool:
        """Say whether both can do their work."""
        return all(await asyncio.gather(self.embedder.ready(), self.search.ready()))


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


def to_field(value: Value) -> search_pb2.FieldValue:
    """Return a field's value as the message that carries it."""
    if isinstance(value, str):
        return search_pb2.FieldValue(string=value)
    if isinstance(value, list):
        return search_pb2.FieldValue(strings=search_pb2.Strings(values=value))
    if isinstance(value, dict):
        return search_pb2.FieldValue(geo=search_pb2.GeoPoint(lat=value["lat"], lon=value["lon"]))
    return search_pb2.FieldValue(number=value)


def from_field(message: search_pb2.FieldValue) -> Value:
    """Return a message's value as plain data."""
    if message.WhichOneof("value") == "geo":
        return {"lat": message.geo.lat, "lon": message.geo.lon}
    if message.WhichOneof("value") == "strings":
        return list(message.strings.values)
    if message.WhichOneof("value") == "string":
        return message.string
    return message.number


def field_types(fields: dict[str, Value]) -> dict[str, str]:
    """Return the types to declare for such values."""
    return {
        name: _FIELD_TYPE_OF_VALUE[str(to_field(value).WhichOneof("value"))]
        for name, value in fields.items()
    }
