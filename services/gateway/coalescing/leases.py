"""Leases in Redis: which replica does a piece of work, and the items that it has published so far.

Keys, under the prefix of the settings: ``lease:<name>`` holds the leader's fencing token until the
leader releases it or stops renewing it. ``flight:<name>`` is a Redis stream of the published items,
each with the token of its leader.
"""

import json
import secrets
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

STREAM_START = "-"
_STREAM_TTL_MS = 60_000
_ACQUIRE = """
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
redis.call('DEL', KEYS[2])
return 1
"""
_PUBLISH = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('XADD', KEYS[2], '*', 't', ARGV[1], 'i', ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
"""
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


@dataclass(frozen=True)
class Published:
    """The result of reading the published items.

    Attributes:
        items: pairs of the publisher's token and its item, in order.
        position: where the next read begins.
        leader: the token of the current leader, empty if there is none.
    """

    items: list[tuple[str, dict[str, Any]]]
    position: str
    leader: str


class LeaseStore:
    """Acquires, renews and reads leases.

    Every method raises ``redis.RedisError`` if Redis is unreachable or refuses the command.

    Args:
        redis: the client.
        prefix: the prefix of every key.
        seconds: how long a lease lasts after it was acquired or renewed.
    """

    def __init__(self, redis: Redis, prefix: str, seconds: float) -> None:
        self._redis: Any = redis
        self._prefix = prefix + "gateway:"
        self.seconds = seconds

    async def acquire(self, name: str) -> str:
        """Acquire a lease; return its fencing token, or an empty string if another holds it."""
        token = secrets.token_hex(8)
        acquired = await self._redis.eval(_ACQUIRE, 2, *self._keys(name), token, self._lease_ms)
        return token if acquired else ""

    async def renew(self, name: str, token: str) -> bool:
        """Extend a lease; return whether the token still holds it."""
        key = self._keys(name)[0]
        return bool(await self._redis.eval(_RENEW, 1, key, token, self._lease_ms))

    async def publish(self, name: str, token: str, item: dict[str, Any]) -> bool:
        """Append an item for the followers; return whether the token still holds the lease."""
        text = json.dumps(item, ensure_ascii=False)
        keys = self._keys(name)
        return bool(await self._redis.eval(_PUBLISH, 2, *keys, token, text, _STREAM_TTL_MS))

    async def release(self, name: str, token: str) -> None:
        """Release a lease that the token holds."""
        await self._redis.eval(_RELEASE, 1, self._keys(name)[0], token)

    async def read(self, name: str, position: str) -> Published:
        """Return the items published after a position; the first one is ``STREAM_START``."""
        lease, stream = self._keys(name)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(lease)
            pipe.xrange(stream, position if position == STREAM_START else f"({position}")
            leader, found = await pipe.execute()
        items = [(row[b"t"].decode(), json.loads(row[b"i"])) for _, row in found]
        last = found[-1][0].decode() if found else position
        return Published(items, last, leader.decode() if leader else "")

    @property
    def _lease_ms(self) -> int:
        return round(self.seconds * 1000)

    def _keys(self, name: str) -> tuple[str, str]:
        return f"{self._prefix}lease:{name}", f"{self._prefix}flight:{name}"
