"""Keeps the ids that a filtered list found, so that its next pages do not search again.

``{c}:<t>:cursor:<id>`` is a sorted set of ids. It expires after ``CURSOR_SECONDS`` without use.
"""

from collections.abc import Sequence

from services.search.engines.catalog import Catalog
from services.search.engines.connection import Client
from services.search.engines.record import Record
from services.search.engines.redis_errors import redis_errors

CURSOR_SECONDS = 60
_WRITE_BATCH = 1_000


class CursorStore:
    """Writes and reads the ids of filtered lists."""

    def __init__(self, redis: Client, catalog: Catalog) -> None:
        self._redis = redis
        self._catalog = catalog

    async def write(self, record: Record, cursor: str, ids: Sequence[str]) -> None:
        """Store ids under a new cursor."""
        key = self._catalog.keys(record).cursor(cursor)
        for first in range(0, len(ids), _WRITE_BATCH):
            async with redis_errors():
                await self._redis.zadd(key, dict.fromkeys(ids[first : first + _WRITE_BATCH], 0))
                await self._redis.expire(key, CURSOR_SECONDS)

    async def read(self, record: Record, cursor: str, after: str, count: int) -> list[str] | None:
        """Return up to ``count`` ids that follow ``after``; None if the cursor has expired."""
        key = self._catalog.keys(record).cursor(cursor)
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.zcard(key)
            pipe.zrangebylex(key, f"({after}", "+", start=0, num=count)
            pipe.expire(key, CURSOR_SECONDS)
            total, found, _ = await pipe.execute()
        return [document_id.decode() for document_id in found] if total else None
