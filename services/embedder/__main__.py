"""Wires the embedder and runs it: ``python -m services.embedder``."""

import contextlib
import functools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop

from memetwin.embedder.v1 import embedder_pb2_grpc
from services import grpc_server, telemetry
from services.embedder.models.model import Model
from services.embedder.registry import Models, Spec
from services.embedder.service import Embedding
from services.embedder.servicer import EmbedderServicer
from services.embedder.settings import RUNTIMES, Settings
from services.grpc_server import ServiceSpec
from services.settings import SettingError, from_env


def specs(settings: Settings) -> list[Spec]:
    """Return the models to serve; one that takes several kinds of input may be named for each.

    Raises:
        SettingError: there is no such runtime.
    """
    if settings.runtime not in RUNTIMES:
        raise SettingError(f"MEMETWIN_RUNTIME={settings.runtime!r} is not one of {RUNTIMES}")
    defaults = {
        "image": settings.image_model,
        "text": settings.text_model,
        "audio": settings.audio_model,
        "pair": settings.rerank_model,
    }
    lazy = settings.names("lazy_models")
    started = [*filter(None, defaults.values()), *settings.names("models")]
    return [
        Spec(
            name,
            frozenset(kind for kind in defaults if defaults[kind] == name),
            functools.partial(_load, name, settings),
            lazy=name not in started,
        )
        for name in dict.fromkeys([*started, *lazy])
    ]


def _load(name: str, settings: Settings) -> Model:
    # It takes seconds to import torch and its kin, in which the service already answers.
    from services.embedder.models import loading  # noqa: PLC0415

    return loading.load(name, settings)


@contextlib.asynccontextmanager
async def wire(settings: Settings) -> AsyncIterator[list[ServiceSpec]]:
    """Build the service and begin to load its models; at the end let go of them."""
    exports = Path(settings.exports)
    async with Models(specs(settings), settings.queue_tokens, exports) as models:
        embedding = Embedding(models, settings.embed_cache)
        servicer = EmbedderServicer(models, embedding)
        yield [
            ServiceSpec(
                "memetwin.embedder.v1.EmbedderService",
                lambda server: embedder_pb2_grpc.add_EmbedderServiceServicer_to_server(
                    servicer, server
                ),
                models.ready,
                components=models.serving,
                reload=models.reload,
            )
        ]
        embedding.close()


async def main() -> None:
    """Serve until told to stop."""
    settings = from_env(Settings, os.environ)
    telemetry.set_up(settings)
    async with wire(settings) as service_specs:
        await grpc_server.serve(service_specs, settings.listen, settings)


if __name__ == "__main__":
    uvloop.run(main())
