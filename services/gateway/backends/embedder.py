"""The embedder service as the gateway calls it: texts and pictures in, arrays out."""

from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from services import deadlines
from services.errors import Unavailable
from services.gateway.backends.rpc import calling, is_serving
from services.gateway.backends.types import TextModel, Vectors


class Embedder:
    """The embedder service behind a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._stub = embedder_pb2_grpc.EmbedderServiceStub(channel)

    async def ready(self) -> bool:
        """Say whether the service answers and its models are loaded."""
        return await is_serving(self._channel, "memetwin.embedder.v1.EmbedderService")

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed texts that look something up: unit vectors, ahead of bulk work."""
        return await self._embed(
            [embedder_pb2.Input(text=text) for text in texts], task=embedder_pb2.TASK_QUERY
        )

    async def embed_documents(self, texts: Sequence[str], *, bulk: bool = False) -> Vectors:
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
        async with calling("embedder"):
            reply = await self._stub.Rerank(
                embedder_pb2.RerankRequest(query=question, texts=texts),
                timeout=deadlines.time_left(),
            )
        return np.array(reply.scores)

    async def token_starts(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """Return where the tokens of each text begin, in code points."""
        async with calling("embedder"):
            reply = await self._stub.Tokenize(
                embedder_pb2.TokenizeRequest(texts=texts), timeout=deadlines.time_left()
            )
        return [tokens.starts for tokens in reply.results]

    async def text_model(self) -> TextModel:
        """Return what there is to know of the model that embeds texts.

        Raises:
            Unavailable: it is still being loaded.
        """
        async with calling("embedder"):
            reply = await self._stub.GetModel(
                embedder_pb2.GetModelRequest(), timeout=deadlines.time_left()
            )
        model = reply.model
        if not model.ready:
            raise Unavailable("MODEL_LOADING", "The model is being loaded.", retry_after=1.0)
        none = np.zeros((0, model.dimensions), np.float32)
        return TextModel(model.max_tokens, Vectors(none, model.name, model.digest))

    async def embed_image(self, image: bytes) -> Vectors:
        """Embed a picture file: one vector, as long as the model makes it."""
        return await self._embed([embedder_pb2.Input(image=image)], normalize=False)

    async def image_model_digest(self) -> str:
        """Return the digest of the model that embeds pictures."""
        return (await self._picture_model()).digest

    async def embed_text_as_image(self, text: str) -> Vectors | None:
        """Embed a text among pictures, or return None if the picture model takes no text."""
        model = await self._picture_model()
        if embedder_pb2.MODALITY_TEXT not in model.modalities:
            return None
        return await self._embed([embedder_pb2.Input(text=text)], model=model.name, normalize=False)

    async def embed_with_usage(
        self, texts: Sequence[str], model: str, dimensions: int
    ) -> tuple[Vectors, int]:
        """Embed texts with a named model, cut to some dimensions; return the tokens too."""
        async with calling("embedder"):
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
        async with calling("embedder"):
            reply = await self._stub.ListModels(
                embedder_pb2.ListModelsRequest(), timeout=deadlines.time_left()
            )
        return [one.name for one in reply.models if embedder_pb2.MODALITY_TEXT in one.modalities]

    async def _picture_model(self) -> embedder_pb2.Model:
        async with calling("embedder"):
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
        async with calling("embedder"):
            reply = await self._stub.Embed(
                embedder_pb2.EmbedRequest(inputs=inputs, **options), timeout=deadlines.time_left()
            )
        rows = np.frombuffer(reply.vectors, "<f4").reshape(len(inputs), reply.dimensions)
        return Vectors(rows, reply.model, reply.model_digest)
