"""Wires the embedder and runs it: ``python -m services.embedder``."""

import contextlib
import os
from collections.abc import AsyncIterator

import uvloop

from memetwin.embedder.v1 import embedder_pb2_grpc
from services import serving, telemetry
from services.embedder.embedding import Embedding, Spec
from services.embedder.models.own import OwnNetwork
from services.embedder.models.sentences import Sentences
from services.embedder.server import EmbedderServicer
from services.embedder.settings import Settings
from services.serving import Face
from services.settings import from_env


def specs(settings: Settings) -> list[Spec]:
    """Return the models to serve; one that reads texts and pictures may be named for both."""
    text, image = settings.text_model, settings.image_model
    if text == image:
        return [Spec(text, frozenset({"text", "image"}), lambda: Sentences.load(text))]
    kind = OwnNetwork if OwnNetwork.owns(image) else Sentences
    return [
        Spec(image, frozenset({"image"}), lambda: kind.load(image)),
        Spec(text, frozenset({"text"}), lambda: Sentences.load(text)),
    ]


@contextlib.asynccontextmanager
async def wire(settings: Settings) -> AsyncIterator[list[Face]]:
    """Build the service and begin to load its models; at the end let go of them."""
    async with Embedding(specs(settings), settings.queue_tokens) as embedding:
        servicer = EmbedderServicer(embedding)
        yield [
            Face(
                "memetwin.embedder.v1.EmbedderService",
                lambda server: embedder_pb2_grpc.add_EmbedderServiceServicer_to_server(
                    servicer, server
                ),
                embedding.ready,
            )
        ]


async def main() -> None:
    """Serve until told to stop."""
    settings = from_env(Settings, os.environ)
    telemetry.set_up(settings)
    async with wire(settings) as faces:
        await serving.serve(faces, settings.listen, settings)


if __name__ == "__main__":
    uvloop.run(main())
