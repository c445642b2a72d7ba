"""Renames the keys of an earlier version of memetwin, in which nothing but the cache had tenants.

All documents and twins of that version become those of the default tenant. Key, under the prefix of
the settings: ``gateway:migrated`` records that the migration is complete.

Each rename is atomic, and a gateway serves documents and twins only when all are done. So a
migration that was interrupted continues at the next start, and replicas may migrate at once.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from services import redis_client
from services.errors import Failure, Unavailable
from services.gateway.redis_store import as_bytes, redis_errors
from services.gateway.tenants import DEFAULT_TENANT

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
_VERSION = b"1"
_BATCH_SIZE = 500
# Kinds of keys whose names go on with a collection and perhaps a document.
_DOCUMENT_KINDS = frozenset(
    {"calibration", "chunks", "copy", "document", "documents", "epoch", "text", "turns"}
)
_TWIN_KINDS = {"twin": "twin-record", "twin-collections": "twin-vectors"}


def new_name(key: str) -> str | None:
    """Return the present name of a key of the earlier version; None if it keeps its name.

    Both names are without the prefix.
    """
    kind, _, rest = key.partition(":")
    if key == "twins":
        return f"twin-ids:{DEFAULT_TENANT.hash_tag('')}"
    if kind in _TWIN_KINDS:
        return f"{_TWIN_KINDS[kind]}:{DEFAULT_TENANT.hash_tag(rest)}"
    if kind in _DOCUMENT_KINDS and not rest.startswith("{"):
        collection, colon, document = rest.partition(":")
        return f"{kind}:{DEFAULT_TENANT.hash_tag(collection)}{colon}{document}"
    return None


class Migration:
    """Migrates once, when the gateway starts.

    Args:
        redis: the client.
        prefix: what every key begins with.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix + "gateway:"
        self._marker = f"{self._prefix}migrated"
        self.done = asyncio.Event()

    def check(self) -> None:
        """Raise Unavailable unless the migration is complete."""
        if not self.done.is_set():
            raise Unavailable(
                "MIGRATION_RUNNING",
                "The gateway is still migrating the data of an earlier version. Try again.",
                retry_after=RETRY_SECONDS,
            )

    async def start(self) -> asyncio.Task[None]:
        """Migrate. If Redis fails, the returned task tries until it succeeds."""
        with contextlib.suppress(Failure):
            await self.run()
        return asyncio.create_task(self._retry())

    async def _retry(self) -> None:
        while not self.done.is_set():
            try:
                await self.run()
            except Failure as failure:
                log.warning("the migration will be tried again", extra={"reason": failure.reason})
                await asyncio.sleep(RETRY_SECONDS)

    async def run(self) -> None:
        """Rename all keys of the earlier version, unless that has been done.

        Raises:
            Failure: Redis fails. Another call continues.
        """
        async with redis_errors():
            if await self._redis.get(self._marker) != _VERSION:
                await self._rename_all()
                await self._redis.set(self._marker, _VERSION)
        self.done.set()

    async def count(self) -> Counter[str]:
        """Return how many keys of each kind a migration would rename."""
        counts: Counter[str] = Counter()
        async with redis_errors():
            async for batch in self._batches():
                counts.update(_kind(old) for old, _ in batch)
        return counts

    async def _rename_all(self) -> None:
        renamed: Counter[str] = Counter()
        not_renamed: Counter[str] = Counter()
        async for batch in self._batches():
            async with self._redis.pipeline(transaction=False) as pipe:
                for old, new in batch:
                    pipe.renamenx(self._prefix + old, self._prefix + new)
                replies = await pipe.execute(raise_on_error=False)
            for (old, _), reply in zip(batch, replies, strict=True):
                if isinstance(reply, ResponseError) and "no such key" in str(reply):
                    continue  # another replica has renamed it
                if isinstance(reply, Exception):
                    raise reply
                (renamed if reply else not_renamed)[_kind(old)] += 1
        if renamed:
            log.info("migrated the keys of an earlier version", extra={"renamed": dict(renamed)})
        if not_renamed:
            log.warning(
                "some keys of an earlier version stay as they are, because newer ones exist; a"
                " gateway of that version may still be running",
                extra={"not_renamed": dict(not_renamed)},
            )

    async def _batches(self) -> AsyncIterator[list[tuple[str, str]]]:
        """Yield the old and the new names, without the prefix, of all keys to rename."""
        batch: list[tuple[str, str]] = []
        async for key in self._redis.scan_iter(f"{self._prefix}*", count=1000):
            old = as_bytes(key).decode().removeprefix(self._prefix)
            new = new_name(old)
            if new is not None:
                batch.append((old, new))
            if len(batch) >= _BATCH_SIZE:
                yield batch
                batch = []
        if batch:
            yield batch


async def preview(redis: Redis, prefix: str) -> None:
    """Log what a migration would rename, and close the client."""
    try:
        counts = await Migration(redis, prefix).count()
    finally:
        await redis_client.close(redis)
    log.info("a migration would rename keys of these kinds", extra={"keys": dict(counts)})


def _kind(key: str) -> str:
    return key.partition(":")[0]
