"""The calibrations of abstention in Redis.

Key, under the prefix of the settings:

- ``gateway:calibration:<hash tag>``   hash of a collection's calibrations, JSON by model digest

The hash tag is that of the collection's documents.
"""

from collections.abc import Sequence

from redis.asyncio import Redis

from services.gateway.rag.ingest.store import DocumentStore
from services.gateway.rag.ingest.types import DocumentCollection
from services.gateway.redis_store import Record, dump, load, redis_errors


class CalibrationStore:
    """Reads and writes calibrations.

    Every method raises Unavailable if Redis is unreachable, and Overloaded if it is out of memory.
    """

    def __init__(self, redis: Redis, prefix: str, documents: DocumentStore) -> None:
        self._redis = redis
        self._documents = documents
        self._prefix = f"{prefix}gateway:calibration:"

    async def get(
        self, collections: Sequence[DocumentCollection], digest: str
    ) -> list[Record | None]:
        """Return the calibration of each collection for the model ``digest``, or None."""
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for collection in collections:
                pipe.hget(self._prefix + collection.hash_tag, digest)
            return [load(value) for value in await pipe.execute()]

    async def put(self, collection: DocumentCollection, digest: str, record: Record) -> None:
        """Write the calibration of a collection for the model ``digest``.

        The same transaction advances the collection's epoch, so that no answer that was cached
        under the previous calibration is served.
        """
        async with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(self._prefix + collection.hash_tag, digest, dump(record).decode())
            self._documents.advance_epoch(pipe, collection)
            await pipe.execute()
