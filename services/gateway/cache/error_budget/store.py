"""Observations in Redis, which the budgets of all replicas learn from.

Key, under the prefix of the settings: ``observations:<tenant>`` is a stream of a tenant's latest
observations. Its records keep the field names of the first version, so existing data remains
readable.
"""

from typing import Any

from redis.asyncio import Redis

from services.gateway.cache.error_budget.types import MAX_OBSERVATIONS, Observation
from services.gateway.cache.types import CandidateFeatures
from services.gateway.redis_store import Record, as_bytes, dump, load, redis_errors


class ObservationStore:
    """Appends observations and reads them back; a tenant keeps the latest MAX_OBSERVATIONS.

    Every method raises Unavailable if Redis is unreachable.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis
        self._prefix = f"{prefix}gateway:observations:"

    async def append(self, tenant: str, observation: Observation) -> str:
        """Append an observation; return its stream id."""
        fields = {"o": dump(_to_record(observation))}
        async with redis_errors():
            stream_id = await self._redis.xadd(
                self._prefix + tenant, fields, maxlen=MAX_OBSERVATIONS, approximate=False
            )
        return as_bytes(stream_id).decode()

    async def read_after(self, tenant: str, stream_id: str) -> tuple[list[Observation], str]:
        """Return the observations after a stream id, or all for an empty id; and the last id."""
        start = f"({stream_id}" if stream_id else "-"
        async with redis_errors():
            items = await self._redis.xrange(self._prefix + tenant, start)
        observations = [_from_record(load(fields[b"o"]) or {}) for _, fields in items]
        return observations, as_bytes(items[-1][0]).decode() if items else stream_id


def _to_record(observation: Observation) -> Record:
    features = observation.features
    return {
        "sighting": {"answer": features.answer_id, "signs": features.values},
        "right": observation.correct,
        "served": observation.served,
        "weight": observation.weight,
        "probability": observation.probability,
        "found": observation.found_answer_id,
    }


def _from_record(record: Record) -> Observation:
    features = record["sighting"]
    return Observation(
        CandidateFeatures(features["answer"], tuple(features["signs"])),
        correct=record["right"],
        served=record["served"],
        weight=record["weight"],
        probability=record["probability"],
        found_answer_id=record["found"],
    )
