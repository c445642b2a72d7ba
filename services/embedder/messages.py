"""Translates protobuf messages to the embedder's dataclasses and back."""

from collections.abc import Collection, Mapping
from typing import Any

from memetwin.embedder.v1 import embedder_pb2
from services.embedder.feature_maps import EncodedLayer, FeatureMaps
from services.embedder.models.model import ModelInfo, RuntimeTrial, Tokens
from services.embedder.readability import (
    MAX_UNREAD_SHARE,
    LanguageSample,
    Readability,
    TextReading,
)
from services.embedder.registry import RegisteredModel
from services.embedder.requests import AudioFile, EmbedRequest, Input, RerankRequest
from services.embedder.service import EmbedResult, RerankResult, Timings
from services.errors import Failure, InvalidArgument

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
_ENCODING_NUMBERS = {name: number for number, name in _ENCODINGS.items()}
_PRIORITIES = {
    embedder_pb2.PRIORITY_UNSPECIFIED: "interactive",
    embedder_pb2.PRIORITY_INTERACTIVE: "interactive",
    embedder_pb2.PRIORITY_BULK: "bulk",
}


def embed_request(message: embedder_pb2.EmbedRequest) -> EmbedRequest:
    """Read a request to embed.

    Raises:
        InvalidArgument: an enum has an unknown value, or an input has no content.
    """
    return EmbedRequest(
        inputs=[_input(value, f"inputs[{index}]") for index, value in enumerate(message.inputs)],
        model=message.model,
        task=_enum_name(_TASKS, message.task, "task"),
        dimensions=message.dimensions,
        encoding=_enum_name(_ENCODINGS, message.encoding, "encoding"),
        normalize=message.normalize if message.HasField("normalize") else True,
        truncate=message.truncate if message.HasField("truncate") else True,
        bulk=_is_bulk(message.priority),
        no_store=message.no_store,
    )


def rerank_request(message: embedder_pb2.RerankRequest) -> RerankRequest:
    """Read a request to rerank.

    Raises:
        InvalidArgument: the priority has an unknown value.
    """
    return RerankRequest(
        message.query, list(message.texts), message.model, _is_bulk(message.priority)
    )


def embed_response(result: EmbedResult) -> embedder_pb2.EmbedResponse:
    """Write an embedded batch."""
    return embedder_pb2.EmbedResponse(
        model=result.info.name,
        model_digest=result.info.digest,
        dimensions=result.vectors.dimensions,
        encoding=_ENCODING_NUMBERS[result.encoding],
        vectors=result.vectors.data,
        tokens=result.tokens,
        truncated=result.truncated,
        recalled=result.cached_inputs,
        cached_inputs=result.cached_inputs,
        timings=_timings(result.timings),
        scale=result.vectors.scale,
        offset=result.vectors.offset,
        readings=map(_reading, result.readings),
    )


def embed_stream_response(outcome: EmbedResult | Failure) -> embedder_pb2.EmbedStreamResponse:
    """Write an item of a stream: an embedded batch, or the error of one."""
    if isinstance(outcome, Failure):
        error = embedder_pb2.Error(
            code=outcome.code.value[0], reason=outcome.reason, message=outcome.message
        )
        return embedder_pb2.EmbedStreamResponse(error=error)
    return embedder_pb2.EmbedStreamResponse(response=embed_response(outcome))


def rerank_response(result: RerankResult) -> embedder_pb2.RerankResponse:
    """Write the scores of texts."""
    return embedder_pb2.RerankResponse(
        model=result.info.name,
        model_digest=result.info.digest,
        scores=result.scores,
        truncated=result.truncated,
        timings=_timings(result.timings),
    )


def feature_maps_response(result: FeatureMaps) -> embedder_pb2.GetFeatureMapsResponse:
    """Write the feature maps of an image."""
    return embedder_pb2.GetFeatureMapsResponse(
        model=result.info.name,
        model_digest=result.info.digest,
        side=result.pixels.shape[0],
        pixels=result.pixels.tobytes(),
        layers=map(_layer, result.layers),
    )


def tokenize_response(
    info: ModelInfo, results: Collection[Tokens]
) -> embedder_pb2.TokenizeResponse:
    """Write the tokens of texts."""
    return embedder_pb2.TokenizeResponse(
        model=info.name,
        results=[
            embedder_pb2.Tokens(starts=tokens.starts, ends=tokens.ends, count=tokens.count)
            for tokens in results
        ],
    )


def model(registered: RegisteredModel) -> embedder_pb2.Model:
    """Describe a model. If it is not loaded, only its name and its default modalities are known."""
    message = embedder_pb2.Model(
        name=registered.spec.name, default_for=_modalities(registered.spec.default_for)
    )
    if registered.model:
        info = registered.model.info
        message.modalities.extend(_modalities(info.modalities))
        message.reranks = "pair" in info.modalities
        message.dimensions, message.max_tokens = info.dimensions, info.max_tokens
        message.query_prompt, message.document_prompt = info.query_prompt, info.document_prompt
        message.runtime, message.device, message.dtype = info.runtime, info.device, info.dtype
        message.digest, message.ready = info.digest, True
        message.trials.extend(_trial(trial) for trial in info.trials)
    if registered.version:
        message.readability.CopyFrom(_readability(registered.version.readability))
    return message


def _enum_name(names: Mapping[Any, str], number: int, field: str) -> str:
    if number not in names:
        raise InvalidArgument(
            f"UNKNOWN_{field.upper()}",
            f"{field} has the unknown value {number}. Use a value that the API defines.",
            field=field,
            value=number,
        )
    return names[number]


def _is_bulk(priority: int) -> bool:
    return _enum_name(_PRIORITIES, priority, "priority") == "bulk"


def _input(message: embedder_pb2.Input, field: str) -> Input:
    content = message.WhichOneof("content")
    if content == "text":
        return message.text
    if content == "image":
        return message.image
    if content == "audio":
        return AudioFile(message.audio)
    raise InvalidArgument(
        "EMPTY_INPUT", "The input has no content. Set text, image or audio.", field=field
    )


def _layer(layer: EncodedLayer) -> embedder_pb2.FeatureMaps:
    is_vector = layer.codes.ndim == 1
    weights = layer.weights
    return embedder_pb2.FeatureMaps(
        kind=layer.kind,
        shape=layer.shape,
        channels=0 if is_vector else layer.codes.shape[0],
        side=0 if is_vector else layer.codes.shape[-1],
        values=layer.codes.tobytes(),
        scale=layer.scale,
        weights=weights.astype("<f4").tobytes() if weights is not None else b"",
        kernel=weights.shape[-1] if weights is not None else 0,
    )


def _timings(timings: Timings) -> embedder_pb2.Timings:
    return embedder_pb2.Timings(
        queue=timings.queue, preprocess=timings.preprocess, inference=timings.inference
    )


def _modalities(names: Collection[str]) -> list[embedder_pb2.Modality.ValueType]:
    """Return modalities as enum values. A pair cannot be embedded, so ``pair`` is left out."""
    modalities = sorted(set(names) - {"pair"})
    return [embedder_pb2.Modality.Value(f"MODALITY_{name.upper()}") for name in modalities]


def _reading(reading: TextReading | None) -> embedder_pb2.Reading:
    if reading is None:
        return embedder_pb2.Reading(readable=True)
    return embedder_pb2.Reading(
        readable=reading.readable,
        unknown_share=reading.unknown_share,
        characters_per_token=reading.characters_per_token,
        end=reading.end,
        cut=reading.length - reading.end,
        unread_starts=[start for start, _ in reading.unread],
        unread_ends=[end for _, end in reading.unread],
    )


def _readability(readability: Readability) -> embedder_pb2.Readability:
    return embedder_pb2.Readability(
        max_unread_share=MAX_UNREAD_SHARE,
        min_characters_per_token=readability.min_characters_per_token,
        unread_scripts=sorted(readability.unread_scripts),
        languages=map(_language, readability.samples),
    )


def _language(sample: LanguageSample) -> embedder_pb2.LanguageReadability:
    return embedder_pb2.LanguageReadability(
        language=sample.language,
        readable=sample.readable,
        similarity=sample.similarity,
        unknown_share=sample.unknown_share,
        characters_per_token=sample.characters_per_token,
    )


def _trial(trial: RuntimeTrial) -> embedder_pb2.Trial:
    return embedder_pb2.Trial(
        runtime=trial.runtime,
        dtype=trial.dtype,
        mean_cosine=trial.mean_cosine,
        min_cosine=trial.min_cosine,
        batch_invariance=trial.batch_invariance,
        top1_hits=trial.top1_hits,
        texts_per_second=trial.texts_per_second,
        # The deprecated names of the three above.
        least_cosine=trial.min_cosine,
        independence=trial.batch_invariance,
        found=trial.top1_hits,
    )
