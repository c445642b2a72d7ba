"""Leases in Redis: who of all replicas does a piece of work, and what came of it so far.

Keys, under the prefix of the settings: ``lease:<name>`` holds the leader's token until it ends or
dies, ``flight:<name>`` is a Redis stream of what it said, each item with its token.
"""

import json
import secrets
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

KEEP_MS = 60_000
_LEAD = """
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
redis.call('DEL', KEYS[2])
return 1
"""
_SAY = """
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
class Said:
    """What was read of a flight: items after a place, that place, and who leads, if anyone does."""

    items: list[tuple[str, dict[str, Any]]]
    place: str
    leader: str


class Leases:
    """Takes, renews and reads leases; every method raises redis.RedisError if Redis is away."""

    def __init__(self, redis: Redis, prefix: str, seconds: float) -> None:
        self._redis: Any = redis
        self._prefix = prefix + "gateway:"
        self.seconds = seconds

    async def lead(self, name: str) -> str:
        """Take a lease; return its token, or an empty string if another leads."""
        token = secrets.token_hex(8)
        taken = await self._redis.eval(_LEAD, 2, *self._keys(name), token, self._lease_ms)
        return token if taken else ""

    async def renew(self, name: str, token: str) -> bool:
        """Make a lease last; say whether it is still ours."""
        key = self._keys(name)[0]
        return bool(await self._redis.eval(_RENEW, 1, key, token, self._lease_ms))

    async def say(self, name: str, token: str, item: dict[str, Any]) -> bool:
        """Let all who follow know; say whether we still lead."""
        text = json.dumps(item, ensure_ascii=False)
        return bool(await self._redis.eval(_SAY, 2, *self._keys(name), token, text, KEEP_MS))

    async def release(self, name: str, token: str) -> None:
        """Give a lease back."""
        await self._redis.eval(_RELEASE, 1, self._keys(name)[0], token)

    async def read(self, name: str, place: str) -> Said:
        """Read what was said after a place; the first place is ``-``."""
        lease, flight = self._keys(name)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(lease)
            pipe.xrange(flight, min=place if place == "-" else f"({place}")
            leader, found = await pipe.execute()
        items = [(row[b"t"].decode(), json.loads(row[b"i"])) for _, row in found]
        last = found[-1][0].decode() if found else place
        return Said(items, last, leader.decode() if leader else "")

    @property
    def _lease_ms(self) -> int:
        return round(self.seconds * 1000)

    def _keys(self, name: str) -> tuple[str, str]:
        return f"{self._prefix}lease:{name}", f"{self._prefix}flight:{name}"
