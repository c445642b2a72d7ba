"""Wires the embedder and runs it: ``python -m services.embedder``."""

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import uvloop

from memetwin.embedder.v1 import embedder_pb2_grpc
from services import serving, telemetry
from services.embedder.embedding import Embedding
from services.embedder.models.model import Model
from services.embedder.models.own import OwnNetwork
from services.embedder.models.pairs import CrossEncoders
from services.embedder.models.sentences import Sentences
from services.embedder.models.trials import RUNTIMES, Runtimes
from services.embedder.served import Models, Spec
from services.embedder.server import EmbedderServicer
from services.embedder.settings import Settings
from services.serving import Face
from services.settings import SettingError, from_env


def specs(settings: Settings) -> list[Spec]:
    """Return the models to serve; one that takes several kinds of input may be named for each.

    Raises:
        SettingError: there is no such runtime.
    """
    if settings.runtime not in RUNTIMES:
        raise SettingError(f"MEMETWIN_RUNTIME={settings.runtime!r} is not one of {RUNTIMES}")
    runtimes = Runtimes(settings.runtime, Path(settings.exports))
    names = {
        "image": settings.image_model,
        "text": settings.text_model,
        "audio": settings.audio_model,
    }
    found = [
        Spec(
            name, frozenset(kind for kind in names if names[kind] == name), _loader(name, runtimes)
        )
        for name in dict.fromkeys(names.values())
        if name
    ]
    rerank = settings.rerank_model
    pairs = Spec(rerank, frozenset({"pair"}), lambda: CrossEncoders.load(rerank))
    return [*found, pairs] if rerank else found


def _loader(name: str, runtimes: Runtimes) -> Callable[[], Model]:
    if OwnNetwork.owns(name):
        return lambda: OwnNetwork.load(name)
    return lambda: Sentences.load(name, runtimes)


@contextlib.asynccontextmanager
async def wire(settings: Settings) -> AsyncIterator[list[Face]]:
    """Build the service and begin to load its models; at the end let go of them."""
    async with Models(specs(settings), settings.queue_tokens) as models:
        embedding = Embedding(models, settings.embed_cache)
        servicer = EmbedderServicer(models, embedding)
        yield [
            Face(
                "memetwin.embedder.v1.EmbedderService",
                lambda server: embedder_pb2_grpc.add_EmbedderServiceServicer_to_server(
                    servicer, server
                ),
                models.ready,
            )
        ]
        embedding.close()


async def main() -> None:
    """Serve until told to stop."""
    settings = from_env(Settings, os.environ)
    telemetry.set_up(settings)
    async with wire(settings) as faces:
        await serving.serve(faces, settings.listen, settings)


if __name__ == "__main__":
    uvloop.run(main())
