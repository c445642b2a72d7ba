"""Does periodic work in the background, such as the deletion of expired documents."""

import asyncio
import logging
from collections.abc import Callable

from services.errors import Aborted, Failure, NotFound
from services.search.engines.catalog import Catalog
from services.search.engines.engine import Engine
from services.search.types import Collection
from services.search.updates import Updates
from services.search.validation import MAX_PAGE_SIZE

log = logging.getLogger(__name__)

# Prefix of the names of the service's temporary collections.
TEMPORARY_PREFIX = ".tune-"
INTERVAL_SECONDS = 10.0
_MAX_TEMPORARY_SECONDS = 3600


class Maintenance:
    """Maintains all collections; ``engine_of`` returns the engine of a collection."""

    def __init__(
        self, catalog: Catalog, updates: Updates, engine_of: Callable[[Collection], Engine]
    ) -> None:
        self._catalog = catalog
        self._updates = updates
        self._engine_of = engine_of

    async def run_forever(self) -> None:
        """Maintain all collections at intervals, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            try:
                await self.run_once()
            except Failure as failure:
                log.debug("maintenance postponed", extra={"reason": failure.reason})
            except Exception:
                log.exception("maintenance failed")

    async def run_once(self) -> None:
        """Maintain every collection.

        This finishes interrupted deletions and changes, and deletes expired documents and abandoned
        temporary collections.
        """
        await self._catalog.purge_deleted()
        after = ""
        while names := await self._catalog.list_names(after, MAX_PAGE_SIZE):
            after = names[-1]
            for name in names:
                try:
                    await self._maintain(name)
                except (NotFound, Aborted):  # another request deletes or changes it
                    continue

    async def _maintain(self, name: str) -> None:
        record = await self._catalog.read(name)
        if name.startswith(TEMPORARY_PREFIX) and record.age_seconds > _MAX_TEMPORARY_SECONDS:
            await self._catalog.delete(record)
            return
        await self._updates.finish_added_fields(record)
        await self._engine_of(record.collection).maintain(name)
