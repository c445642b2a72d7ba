"""The clients of both services that the gateway calls."""

import asyncio
from dataclasses import dataclass

from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.search import SearchClient


@dataclass(frozen=True)
class Backends:
    """Both clients."""

    embedder: EmbedderClient
    search: SearchClient

    async def ready(self) -> bool:
        """Return whether both services can do their work."""
        return all(await asyncio.gather(self.embedder.ready(), self.search.ready()))
