"""Builds the embedder from its settings and runs it: ``python -m services.embedder``."""

import contextlib
import functools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop

from memetwin.embedder.v1 import embedder_pb2_grpc
from services import grpc_server, service_token
from services.embedder.models.model import Model
from services.embedder.registry import ModelRegistry, ModelSpec
from services.embedder.service import EmbeddingService
from services.embedder.servicer import EmbedderServicer
from services.embedder.settings import RUNTIMES, Settings
from services.grpc_server import ServiceSpec
from services.settings import SettingError, from_env


def model_specs(settings: Settings) -> list[ModelSpec]:
    """Return the models to serve. One model may be the default for several modalities.

    Raises:
        SettingError: MEMETWIN_RUNTIME is not one of ``RUNTIMES``.
    """
    if settings.runtime not in RUNTIMES:
        raise SettingError(
            f"MEMETWIN_RUNTIME={settings.runtime!r} is not one of {', '.join(RUNTIMES)}"
        )
    defaults = {
        "image": settings.image_model,
        "text": settings.text_model,
        "audio": settings.audio_model,
        "pair": settings.rerank_model,
    }
    lazy = settings.names("lazy_models")
    eager = [
        *filter(None, defaults.values()),
        *settings.names("models"),
        *settings.names("verifier_model"),
    ]
    return [
        ModelSpec(
            name,
            frozenset(modality for modality in defaults if defaults[modality] == name),
            functools.partial(_load, name, settings),
            lazy=name not in eager,
        )
        for name in dict.fromkeys([*eager, *lazy])
    ]


def _load(name: str, settings: Settings) -> Model:
    # Importing torch and the model libraries takes seconds; the service listens meanwhile.
    from services.embedder.models import loading  # noqa: PLC0415

    return loading.load(name, settings)


@contextlib.asynccontextmanager
async def wire(settings: Settings) -> AsyncIterator[list[ServiceSpec]]:
    """Build the service and start loading its models; close them at the end."""
    registry = ModelRegistry(model_specs(settings), settings.queue_tokens, Path(settings.exports))
    async with registry:
        service = EmbeddingService(registry, settings.embed_cache)
        servicer = EmbedderServicer(registry, service)
        yield [
            ServiceSpec(
                "memetwin.embedder.v1.EmbedderService",
                lambda server: embedder_pb2_grpc.add_EmbedderServiceServicer_to_server(
                    servicer, server
                ),
                registry.ready,
                service_token.authenticator(settings, settings.listen),
                components=registry.availability,
                reload=registry.reload,
            )
        ]
        service.close()


async def main() -> None:
    """Serve until the process is asked to stop."""
    settings = from_env(Settings, os.environ)
    await grpc_server.run(wire(settings), settings.listen, settings)


if __name__ == "__main__":
    uvloop.run(main())
