"""Both services that the gateway calls."""

import asyncio

from services.gateway.backends.embedder import Embedder
from services.gateway.backends.search import Search


class Backends:
    """Both services together."""

    def __init__(self, embedder: Embedder, search: Search) -> None:
        self.embedder = embedder
        self.search = search

    async def ready(self) -> bool:
        """Say whether both can do their work."""
        return all(await asyncio.gather(self.embedder.ready(), self.search.ready()))
