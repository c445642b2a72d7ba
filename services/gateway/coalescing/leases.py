"""Leases in Redis: which replica does a piece of work, and the items that it has published so far.

Keys, under the prefix of the settings:

- ``singleflight:{<hash>}``        the leader's fencing token, until the leader releases the lease
  or stops renewing it
- ``singleflight-items:{<hash>}``  a Redis stream of the published batches: the leader's token, the
  number of the first item, and the items as a JSON list

The hash of the lease's name keeps both keys in one slot of a cluster, because scripts change them
together.

A new format of the batches needs new key names. Replicas of different versions then do not share
work, instead of misreading each other's items.
"""

import asyncio
import contextlib
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.gateway.circuit_breaker import CircuitBreaker

STREAM_START = "-"
# Seconds for the calls that the work or a follower waits for.
TIMEOUT = 1.0
_STREAM_TTL_MS = 60_000
_ACQUIRE = """
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
redis.call('DEL', KEYS[2])
return 1
"""
_PUBLISH = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('XADD', KEYS[2], '*', 't', ARGV[1], 'n', ARGV[2], 'i', ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
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
class Batch:
    """Items that a leader has published together.

    Attributes:
        token: the fencing token of the leader.
        first: the number of the first item; the first item of a leader has number 0.
        items: the items, in order.
    """

    token: str
    first: int
    items: list[dict[str, Any]]


@dataclass(frozen=True)
class Published:
    """The result of one read of the published batches.

    Attributes:
        batches: the batches, in order.
        position: where the next read begins.
        leader: the token of the current leader, empty if nobody holds the lease.
    """

    batches: list[Batch]
    position: str
    leader: str


class LeaseStore:
    """Acquires, renews and reads leases.

    Every method raises ``redis.RedisError`` if Redis is unreachable or refuses the command.

    Args:
        redis: the client.
        prefix: the prefix of all keys.
        seconds: how long a lease lasts after it was acquired or renewed.
        breaker: the circuit breaker of Redis.
    """

    def __init__(
        self, redis: Redis, prefix: str, seconds: float, breaker: CircuitBreaker | None = None
    ) -> None:
        self._redis: Any = redis
        self._prefix = prefix + "gateway:"
        self.seconds = seconds
        self._breaker = breaker or CircuitBreaker()

    async def acquire(self, name: str) -> str:
        """Acquire a lease; return its fencing token, or an empty string if another holds it.

        The work waits for this call, so it fails fast if Redis is slow.
        """
        if not self._breaker.allows():
            raise RedisConnectionError("The circuit breaker of Redis is open.")
        token = secrets.token_hex(8)
        async with self._in_time():
            acquired = await self._redis.eval(_ACQUIRE, 2, *self._keys(name), token, self._lease_ms)
        return token if acquired else ""

    async def renew(self, name: str, token: str) -> bool:
        """Extend a lease; return whether the token still holds it."""
        key = self._keys(name)[0]
        return bool(await self._redis.eval(_RENEW, 1, key, token, self._lease_ms))

    async def publish(
        self, name: str, token: str, first: int, items: Sequence[dict[str, Any]]
    ) -> bool:
        """Publish items for the followers; return whether the token still holds the lease.

        ``first`` is the number of the first item.
        """
        text = json.dumps(items, ensure_ascii=False)
        keys = self._keys(name)
        return bool(await self._redis.eval(_PUBLISH, 2, *keys, token, first, text, _STREAM_TTL_MS))

    async def release(self, name: str, token: str) -> None:
        """Release a lease that the token holds."""
        await self._redis.eval(_RELEASE, 1, self._keys(name)[0], token)

    async def read(self, name: str, position: str) -> Published:
        """Return the batches published after a position; the first one is ``STREAM_START``.

        Followers wait for this call, so it fails fast if Redis is slow.
        """
        lease, stream = self._keys(name)
        async with self._in_time(), self._redis.pipeline(transaction=True) as pipe:
            pipe.get(lease)
            pipe.xrange(stream, position if position == STREAM_START else f"({position}")
            leader, found = await pipe.execute()
        batches = [
            Batch(row[b"t"].decode(), int(row[b"n"]), json.loads(row[b"i"])) for _, row in found
        ]
        last = found[-1][0].decode() if found else position
        return Published(batches, last, leader.decode() if leader else "")

    @contextlib.asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Fail fast if Redis is slow, and record in its circuit breaker whether it answers."""
        try:
            async with asyncio.timeout(TIMEOUT):
                yield
        except (TimeoutError, RedisConnectionError, RedisTimeoutError) as error:
            self._breaker.record_failure()
            raise RedisConnectionError("Redis does not answer.") from error
        self._breaker.record_success()

    @property
    def _lease_ms(self) -> int:
        return round(self.seconds * 1000)

    def _keys(self, name: str) -> tuple[str, str]:
        tag = f"{{{hashlib.sha256(name.encode()).hexdigest()[:32]}}}"
        return f"{self._prefix}singleflight:{tag}", f"{self._prefix}singleflight-items:{tag}"
