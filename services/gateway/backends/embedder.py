"""The client of the embedder: texts and images in, arrays out.

Every call ends by the deadline of the request that it is part of. It raises the embedder's Failure,
or Unavailable if the embedder is unreachable.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from services import deadlines
from services.errors import Unavailable
from services.gateway.backends.rpc import Peer, is_serving
from services.gateway.backends.types import (
    NetworkLayer,
    NetworkView,
    TextModel,
    TextReading,
    Vectors,
)


class EmbedderClient:
    """Calls the embedder through a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self._peer = Peer("embedder")
        self._stub = embedder_pb2_grpc.EmbedderServiceStub(channel)

    async def ready(self) -> bool:
        """Return whether the embedder answers and has loaded its models."""
        return await is_serving(self.channel, "memetwin.embedder.v1.EmbedderService")

    async def embed_queries(self, texts: Sequence[str], *, bulk: bool = False) -> Vectors:
        """Embed queries as unit vectors. With ``bulk``, interactive calls have priority."""
        return await self._embed(
            _text_inputs(texts), task=embedder_pb2.TASK_QUERY, priority=_priority(bulk=bulk)
        )

    async def embed_documents(self, texts: Sequence[str], *, bulk: bool = False) -> Vectors:
        """Embed documents as unit vectors. With ``bulk``, interactive calls have priority."""
        return await self._embed(
            _text_inputs(texts), task=embedder_pb2.TASK_DOCUMENT, priority=_priority(bulk=bulk)
        )

    async def embed_image(self, image: bytes, *, no_store: bool = False) -> Vectors:
        """Embed an image file: one vector, not normalised.

        With ``no_store`` the embedder does not cache the vector.
        """
        await asyncio.sleep(0)  # each copy of a large image takes milliseconds
        request = embedder_pb2.EmbedRequest(normalize=False, no_store=no_store)
        # This copies the image once. ``EmbedRequest(inputs=[Input(image=image)])`` takes 15 times
        # as long.
        request.inputs.add().image = image
        return _vectors(await self._send_embed(request), 1)

    async def embed_images(self, images: Sequence[bytes]) -> Vectors:
        """Embed image files in one batch, not normalised. The embedder caches no vector."""
        request = embedder_pb2.EmbedRequest(normalize=False, no_store=True)
        for image in images:
            await asyncio.sleep(0)
            request.inputs.add().image = image
        return _vectors(await self._send_embed(request), len(images))

    async def feature_maps(self, image: bytes, max_channels: int) -> NetworkView:
        """Return what each layer of the image network computes from an image file.

        Raises:
            FailedPrecondition: the image model does not show its layers.
        """
        await asyncio.sleep(0)
        request = embedder_pb2.GetFeatureMapsRequest(max_channels=max_channels)
        request.image = image
        async with self._peer.call():
            reply = await self._stub.GetFeatureMaps(request, timeout=deadlines.time_left())
        return NetworkView(reply.side, reply.pixels, list(map(_layer, reply.layers)))

    async def embed_text_as_image(self, text: str) -> Vectors | None:
        """Embed a text with the image model, not normalised; None if it cannot read texts."""
        model = await self._image_model()
        if embedder_pb2.MODALITY_TEXT not in model.modalities:
            return None
        return await self._embed(_text_inputs([text]), model=model.name, normalize=False)

    async def embed_with_usage(
        self, texts: Sequence[str], model: str, dimensions: int, *, truncate: bool = True
    ) -> tuple[Vectors, int]:
        """Embed texts with a named model, cut to ``dimensions``; also return the token count."""
        reply = await self._call_embed(
            _text_inputs(texts), model=model, dimensions=dimensions, truncate=truncate
        )
        return _vectors(reply, len(texts)), sum(reply.tokens)

    async def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float64]:
        """Score with a cross-encoder how well each text answers a query: float64 scores [n].

        Raises:
            FailedPrecondition: the embedder serves no cross-encoder.
        """
        request = embedder_pb2.RerankRequest(query=query, texts=texts)
        async with self._peer.call():
            reply = await self._stub.Rerank(request, timeout=deadlines.time_left())
        return np.array(reply.scores)

    async def score_pairs(
        self, question: str, others: Sequence[str], model: str, seconds: float
    ) -> tuple[NDArray[np.float64], str]:
        """Score with a cross-encoder whether each text asks the same as a question.

        Args:
            question: the text that is compared with each of the others.
            others: at most 1,024 texts.
            model: name of the cross-encoder.
            seconds: how long to wait at most.

        Returns:
            Scores, float64 [n], and the model's digest.
        """
        request = embedder_pb2.RerankRequest(query=question, texts=others, model=model)
        timeout = min(seconds, deadlines.time_left() or seconds)
        async with self._peer.call():
            reply = await self._stub.Rerank(request, timeout=timeout)
        return np.array(reply.scores), reply.model_digest

    async def token_starts(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """Return the offset in code points at which each token of each text begins."""
        request = embedder_pb2.TokenizeRequest(texts=texts)
        async with self._peer.call():
            reply = await self._stub.Tokenize(request, timeout=deadlines.time_left())
        return [tokens.starts for tokens in reply.results]

    async def detokenize(self, token_ids: Sequence[Sequence[int]], model: str) -> list[str]:
        """Return the texts of token ids of a named model.

        Raises:
            InvalidArgument: the model's vocabulary has no such token.
        """
        ids = [embedder_pb2.TokenIds(ids=one) for one in token_ids]
        request = embedder_pb2.DetokenizeRequest(token_ids=ids, model=model)
        async with self._peer.call():
            reply = await self._stub.Detokenize(request, timeout=deadlines.time_left())
        return list(reply.texts)

    async def text_model(self) -> TextModel:
        """Return the model that embeds texts.

        Raises:
            Unavailable: the embedder is still loading it.
        """
        request = embedder_pb2.GetModelRequest()
        async with self._peer.call():
            reply = await self._stub.GetModel(request, timeout=deadlines.time_left())
        model = reply.model
        if not model.ready:
            raise Unavailable(
                "MODEL_LOADING",
                "The embedder is still loading its text model. Try again.",
                retry_after=1.0,
            )
        return TextModel(model.digest, model.dimensions, model.max_tokens, model.document_prompt)

    async def text_models(self) -> list[str]:
        """Return the names of the models that read texts."""
        models = await self._list_models()
        return [one.name for one in models if embedder_pb2.MODALITY_TEXT in one.modalities]

    async def image_model_digest(self) -> str:
        """Return the digest of the model that embeds images."""
        return (await self._image_model()).digest

    async def _image_model(self) -> embedder_pb2.Model:
        for model in await self._list_models():
            if embedder_pb2.MODALITY_IMAGE in model.default_for and model.digest:
                return model
        raise Unavailable(
            "NO_PICTURE_MODEL",
            "The embedder has no image model ready. Try again.",
            field="image",
            retry_after=2.0,
        )

    async def _list_models(self) -> Sequence[embedder_pb2.Model]:
        request = embedder_pb2.ListModelsRequest()
        async with self._peer.call():
            reply = await self._stub.ListModels(request, timeout=deadlines.time_left())
        return reply.models

    async def _embed(self, inputs: Sequence[embedder_pb2.Input], **options: Any) -> Vectors:
        return _vectors(await self._call_embed(inputs, **options), len(inputs))

    async def _call_embed(
        self, inputs: Sequence[embedder_pb2.Input], **options: Any
    ) -> embedder_pb2.EmbedResponse:
        return await self._send_embed(embedder_pb2.EmbedRequest(inputs=inputs, **options))

    async def _send_embed(self, request: embedder_pb2.EmbedRequest) -> embedder_pb2.EmbedResponse:
        async with self._peer.call():
            reply: embedder_pb2.EmbedResponse = await self._stub.Embed(
                request, timeout=deadlines.time_left()
            )
        return reply


def _priority(*, bulk: bool) -> Any:
    return embedder_pb2.PRIORITY_BULK if bulk else embedder_pb2.PRIORITY_INTERACTIVE


def _text_inputs(texts: Sequence[str]) -> list[embedder_pb2.Input]:
    return [embedder_pb2.Input(text=text) for text in texts]


def _vectors(reply: embedder_pb2.EmbedResponse, count: int) -> Vectors:
    rows = np.frombuffer(reply.vectors, "<f4").reshape(count, reply.dimensions)
    return Vectors(rows, reply.model, reply.model_digest, tuple(map(_reading, reply.readings)))


def _reading(message: embedder_pb2.Reading) -> TextReading:
    unread = list(zip(message.unread_starts, message.unread_ends, strict=True))
    if message.cut:
        unread.append((message.end, message.end + message.cut))
    return TextReading(message.readable, message.cut > 0, tuple(unread))


def _layer(message: embedder_pb2.FeatureMaps) -> NetworkLayer:
    return NetworkLayer(
        message.kind,
        tuple(message.shape),
        message.channels,
        message.side,
        message.values,
        message.scale,
        message.weights,
        message.kernel,
    )
