"""The embedder's gRPC face: translates and calls, nothing else."""

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from services.embedder.embed_stream import ordered
from services.embedder.models.model import RuntimeTrial
from services.embedder.registry import Models, Served
from services.embedder.requests import Order, Ranking, SoundFile
from services.embedder.service import Embedded, Embedding, Times
from services.errors import Failure, InvalidArgument

PAGE_LIMIT = 1000
_TASKS = {
    embedder_pb2.TASK_UNSPECIFIED: "",
    embedder_pb2.TASK_QUERY: "query",
    embedder_pb2.TASK_DOCUMENT: "document",
}
_ENCODINGS = {
    embedder_pb2.ENCODING_UNSPECIFIED: "float32",
    embedder_pb2.ENCODING_FLOAT32: "float32",
    embedder_pb2.ENCODING_FLOAT16: "float16",
    embedder_pb2.ENCODING_INT8: "int8",
    embedder_pb2.ENCODING_BINARY: "binary",
}
_ENCODED = {name: number for number, name in _ENCODINGS.items()}
_PRIORITIES = {
    embedder_pb2.PRIORITY_UNSPECIFIED: "interactive",
    embedder_pb2.PRIORITY_INTERACTIVE: "interactive",
    embedder_pb2.PRIORITY_BULK: "bulk",
}


class EmbedderServicer(embedder_pb2_grpc.EmbedderServiceServicer):
    """EmbedderService over the models."""

    def __init__(self, models: Models, embedding: Embedding) -> None:
        self._models, self._embedding = models, embedding

    async def Embed(
        self, request: embedder_pb2.EmbedRequest, context: Any
    ) -> embedder_pb2.EmbedResponse:
        """Embed a batch."""
        return _write(await self._embedding.embed(_read(request)))

    async def EmbedStream(
        self, request_iterator: AsyncIterator[embedder_pb2.EmbedStreamRequest], context: Any
    ) -> AsyncIterator[embedder_pb2.EmbedStreamResponse]:
        """Embed batches of a stream; what is wrong with one is told of that one."""
        orders = (_read(item.request) async for item in request_iterator)
        async for outcome in ordered(orders, self._embedding):
            if isinstance(outcome, Failure):
                error = embedder_pb2.Error(
                    code=outcome.code.value[0], reason=outcome.reason, message=outcome.message
                )
                yield embedder_pb2.EmbedStreamResponse(error=error)
            else:
                yield embedder_pb2.EmbedStreamResponse(response=_write(outcome))

    async def Tokenize(
        self, request: embedder_pb2.TokenizeRequest, context: Any
    ) -> embedder_pb2.TokenizeResponse:
        """Say where tokens lie."""
        info, found = await self._embedding.tokenize(request.model, list(request.texts))
        return embedder_pb2.TokenizeResponse(
            model=info.name,
            results=[
                embedder_pb2.Tokens(starts=tokens.starts, ends=tokens.ends, count=tokens.count)
                for tokens in found
            ],
        )

    async def Rerank(
        self, request: embedder_pb2.RerankRequest, context: Any
    ) -> embedder_pb2.RerankResponse:
        """Score texts against a question."""
        bulk = _named(_PRIORITIES, request.priority, "priority") == "bulk"
        ranking = Ranking(request.query, list(request.texts), request.model, bulk)
        ranked = await self._embedding.rerank(ranking)
        return embedder_pb2.RerankResponse(
            model=ranked.info.name,
            model_digest=ranked.info.digest,
            scores=ranked.scores,
            truncated=ranked.truncated,
            timings=_timings(ranked.times),
        )

    async def ListModels(
        self, request: embedder_pb2.ListModelsRequest, context: Any
    ) -> embedder_pb2.ListModelsResponse:
        """List models."""
        if request.page_size < 0:
            raise InvalidArgument("BAD_PAGE_SIZE", "page_size is negative.", field="page_size")
        size = min(request.page_size or 100, PAGE_LIMIT)
        after = [one for one in self._models.everything() if one.spec.name > request.page_token]
        return embedder_pb2.ListModelsResponse(
            models=map(_describe, after[:size]),
            next_page_token=after[size - 1].spec.name if len(after) > size else "",
        )

    async def GetModel(
        self, request: embedder_pb2.GetModelRequest, context: Any
    ) -> embedder_pb2.GetModelResponse:
        """Describe a model."""
        return embedder_pb2.GetModelResponse(model=_describe(self._models.find(request.name)))


def _named(table: Mapping[Any, str], number: int, place: str) -> str:
    if number not in table:
        raise InvalidArgument(
            f"UNKNOWN_{place.upper()}", f"{place} has no such value.", field=place, value=number
        )
    return table[number]


def _read(request: embedder_pb2.EmbedRequest) -> Order:
    return Order(
        inputs=[_input(value, f"inputs[{n}]") for n, value in enumerate(request.inputs)],
        model=request.model,
        task=_named(_TASKS, request.task, "task"),
        dimensions=request.dimensions,
        encoding=_named(_ENCODINGS, request.encoding, "encoding"),
        normalize=request.normalize if request.HasField("normalize") else True,
        truncate=request.truncate if request.HasField("truncate") else True,
        bulk=_named(_PRIORITIES, request.priority, "priority") == "bulk",
    )


def _input(message: embedder_pb2.Input, place: str) -> str | bytes:
    kind = message.WhichOneof("content")
    if kind == "text":
        return message.text
    if kind == "image":
        return message.image
    if kind == "audio":
        return SoundFile(message.audio)
    raise InvalidArgument("EMPTY_INPUT", "The input has no content.", field=place)


def _write(value: Embedded) -> embedder_pb2.EmbedResponse:
    return embedder_pb2.EmbedResponse(
        model=value.info.name,
        model_digest=value.info.digest,
        dimensions=value.packed.dimensions,
        encoding=_ENCODED[value.encoding],
        vectors=value.packed.data,
        tokens=value.tokens,
        truncated=value.truncated,
        recalled=value.recalled,
        cached_inputs=value.recalled,
        timings=_timings(value.times),
        scale=value.packed.scale,
        offset=value.packed.offset,
    )


def _timings(times: Times) -> embedder_pb2.Timings:
    return embedder_pb2.Timings(
        queue=times.queue, preprocess=times.preprocess, inference=times.inference
    )


def _describe(served: Served) -> embedder_pb2.Model:
    message = embedder_pb2.Model(
        name=served.spec.name,
        default_for=_modalities(served.spec.default_for),
    )
    if served.model:
        info = served.model.info
        message.modalities.extend(_modalities(info.modalities))
        message.reranks = "pair" in info.modalities
        message.dimensions, message.max_tokens = info.dimensions, info.max_tokens
        message.runtime, message.device, message.dtype = info.runtime, info.device, info.dtype
        message.digest, message.ready = info.digest, True
        message.trials.extend(_trial(trial) for trial in info.trials)
    return message


def _modalities(names: Collection[str]) -> list[embedder_pb2.Modality.ValueType]:
    """Name kinds of input; a pair is none that could be embedded."""
    kinds = sorted(set(names) - {"pair"})
    return [embedder_pb2.Modality.Value(f"MODALITY_{name.upper()}") for name in kinds]


def _trial(trial: RuntimeTrial) -> embedder_pb2.Trial:
    return embedder_pb2.Trial(
        runtime=trial.runtime,
        dtype=trial.dtype,
        mean_cosine=trial.mean_cosine,
        least_cosine=trial.min_cosine,
        independence=trial.batch_invariance,
        found=trial.top1_hits,
        texts_per_second=trial.texts_per_second,
        min_cosine=trial.min_cosine,
        batch_invariance=trial.batch_invariance,
        top1_hits=trial.top1_hits,
    )
