"""Keeps the search collections of an earlier version in use, which had other names.

Their names had only the first 16 digits of the model's digest. Each becomes the target of an alias
with the present name, so no prompt is indexed again.
"""

import asyncio
import logging

from services import deadlines
from services.errors import AlreadyExists, Failure, NotFound
from services.gateway.backends.collections import CollectionClient, CollectionInfo
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.search import SearchClient
from services.gateway.backends.types import CollectionSpec
from services.gateway.cache import index

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0


class OldIndexes:
    """Assigns the present names to the collections that exist when the gateway starts."""

    def __init__(
        self, collections: CollectionClient, search: SearchClient, embedder: EmbedderClient
    ) -> None:
        self._collections = collections
        self._search = search
        self._embedder = embedder

    async def adopt_all(self) -> None:
        """Adopt all old collections. Wait for the services that this needs."""
        while True:
            try:
                with deadlines.limit(deadlines.LONG_DEADLINE):
                    await self._adopt_all()
            except Failure:  # a service is starting
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _adopt_all(self) -> None:
        found = [(one, _present_name(one)) for one in await self._collections.list_all()]
        pending = [(one, name) for one, name in found if name and name not in one.aliases]
        if not pending:
            return
        model = await self._embedder.text_model()
        for one, name in pending:
            if one.model_digest == model.digest and one.dimensions != model.dimensions:
                log.warning(
                    "the collection %s is deleted, because its vectors have %d numbers and those of"
                    " its model %d; its cache entries stay in the exact tier",
                    one.name,
                    one.dimensions,
                    model.dimensions,
                )
                await self._collections.delete(one.name)
            elif await adopt(self._search, name, one.name):
                log.info("the collection %s is now called %s", one.name, name)


async def adopt_for(search: SearchClient, spec: CollectionSpec) -> bool:
    """Adopt the old collection whose place a collection would take; return whether there is one."""
    old = index.old_names(spec.model_digest).get(spec.name)
    if old is None or await search.model(old) != (spec.model_digest, spec.dimensions):
        return False
    return await adopt(search, spec.name, old)


async def adopt(search: SearchClient, name: str, old: str) -> bool:
    """Point the present name at an old collection; return False if a collection has that name."""
    try:
        await search.assign_alias(name, old)
    except (AlreadyExists, NotFound):
        return False
    return True


def _present_name(found: CollectionInfo) -> str:
    """Return the present name of an old collection, and an empty string for any other one."""
    names = index.old_names(found.model_digest).items()
    return next((name for name, old in names if old == found.name != name), "")
