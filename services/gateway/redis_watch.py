"""Watches Redis for what endangers data: lost data, eviction, and another secret.

Redis key, under the prefix of the settings: ``gateway:dataset`` holds a random id that the first
replica creates. If it is missing or different, Redis has lost its data.
"""

import asyncio
import logging
import secrets
import time
from typing import Any

from prometheus_client import Counter
from redis import exceptions
from redis.asyncio import Redis

from services.errors import Failure
from services.gateway.alarms import Alarms
from services.gateway.redis_store import as_bytes, redis_errors
from services.gateway.shared_secret import SharedSecret

log = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
# An alarm shows lost data for this many seconds.
REPORT_SECONDS = 3600.0
REDIS_DATA_LOST = "REDIS_DATA_LOST"
REDIS_EVICTS = "REDIS_EVICTS"
LOSSES = Counter("memetwin_redis_data_lost_total", "Times that Redis had lost its data.")


class RedisWatch:
    """Checks Redis and the secret every ``CHECK_SECONDS``, and raises alarms.

    Args:
        redis: the client.
        prefix: what every key begins with.
        secret: the secret, which is checked too.
        alarms: shows what is wrong.
    """

    def __init__(self, redis: Redis, prefix: str, secret: SharedSecret, alarms: Alarms) -> None:
        self._redis = redis
        self._key = f"{prefix}gateway:dataset"
        self._secret = secret
        self._alarms = alarms
        self._dataset = b""
        self._lost_at = 0.0

    async def watch(self) -> None:
        """Check until cancelled."""
        while True:
            try:
                await self.check()
            except Failure as failure:
                log.debug("Redis could not be checked", extra={"reason": failure.reason})
            await asyncio.sleep(CHECK_SECONDS)

    async def check(self) -> None:
        """Check once. Raises Unavailable if Redis is unreachable."""
        await self._secret.check()
        await self._check_dataset()
        await self._check_policy()

    async def _check_dataset(self) -> None:
        own = secrets.token_hex(8).encode()
        async with redis_errors():
            stored = as_bytes(await self._redis.set(self._key, own, nx=True, get=True)) or own
        known, self._dataset = self._dataset, stored
        if known and known != stored:
            LOSSES.inc()
            self._lost_at = time.monotonic()
            self._alarms.set(
                REDIS_DATA_LOST,
                "Redis has lost its data while the gateway ran. Restore a backup, and set"
                " appendonly yes and maxmemory-policy noeviction.",
            )
        elif time.monotonic() - self._lost_at > REPORT_SECONDS:
            self._alarms.clear(REDIS_DATA_LOST)

    async def _check_policy(self) -> None:
        try:
            async with redis_errors():
                policies = _eviction_policies(await self._redis.info("memory"))
        except Failure as failure:
            if isinstance(failure.__cause__, exceptions.ResponseError):  # a server without INFO
                return
            raise
        if policies:
            self._alarms.set(
                REDIS_EVICTS,
                "Redis deletes keys when its memory is full, because its maxmemory-policy is"
                f" {' and '.join(policies)}. Set maxmemory-policy noeviction; the cache evicts its"
                " entries itself.",
            )
        else:
            self._alarms.clear(REDIS_EVICTS)


def _eviction_policies(info: dict[str, Any]) -> list[str]:
    """Return the policies that evict, from INFO of one server or of each node of a cluster."""
    servers = [info] if "maxmemory_policy" in info else [*info.values()]
    return sorted(
        {
            one["maxmemory_policy"]
            for one in servers
            if isinstance(one, dict) and one.get("maxmemory")
            if one.get("maxmemory_policy", "noeviction") != "noeviction"
        }
    )
