"""Counts what keys and tenants use, for all replicas, in Redis.

Keys, under the prefix of the settings, with the hash tag of the tenant:

- ``limits:{<tenant>/limits}:<subject>``        a hash: the counters of this minute, of the minute
  before and of this day; the subject is ``tenant`` or a key
- ``limits:{<tenant>/limits}:<subject>:calls``  a sorted set of the calls in flight by the time in
  milliseconds at which a replica that has died no longer counts
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from services.gateway.auth.counts import LIMITS, Counts
from services.key_file import Key, Limits

LEASE_SECONDS = 60
# Redis' scripts can pass less than 8,000 values to a command, and a call takes two.
MAX_CALLS = 1000
_UNLIMITED = -1
_COUNTERS = 9  # of each subject, as a script returns them
# Reads the counters of a subject. It returns those of another minute or day as they are now.
_READ = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local minute, day = math.floor(now / 60), math.floor(now / 86400)
local function read(key)
  local row = redis.call('HMGET', key, 'minute', 'requests', 'earlier_requests', 'tokens',
    'earlier_tokens', 'day', 'day_tokens', 'day_money')
  for i = 1, 8 do row[i] = tonumber(row[i]) or 0 end
  if row[1] ~= minute then
    local is_next = row[1] == minute - 1
    row[3], row[5] = is_next and row[2] or 0, is_next and row[4] or 0
    row[1], row[2], row[4] = minute, 0, 0
  end
  if row[6] ~= day then row[6], row[7], row[8] = day, 0, 0 end
  return row
end
local function write(key, row)
  redis.call('HSET', key, 'minute', row[1], 'requests', row[2], 'earlier_requests', row[3],
    'tokens', row[4], 'earlier_tokens', row[5], 'day', row[6], 'day_tokens', row[7],
    'day_money', row[8])
  redis.call('EXPIRE', key, 172800)
end
"""
# KEYS: the hash and the calls of each subject. ARGV: the lease in milliseconds, the five limits of
# each subject, and the ids of the calls. The first calls are granted, as many as all limits allow.
# Returns how many, the number of the subject and of the limit that refuses the others or 0 and 0,
# the time, and the counters of each subject.
_ACQUIRE = (
    _READ
    + """
local lease, subjects, part = ARGV[1], #KEYS / 2, now / 60 - minute
local first = 2 + 5 * subjects
local granted, refuses, rows = #ARGV - first + 1, {0, 0}, {}
local function limit(i, n) return tonumber(ARGV[1 + 5 * (i - 1) + n]) end
for i = 1, subjects do
  local row, calls = read(KEYS[2 * i - 1]), KEYS[2 * i]
  row[9] = 0
  if limit(i, 1) >= 0 then
    redis.call('ZREMRANGEBYSCORE', calls, '-inf', now * 1000)
    row[9] = redis.call('ZCARD', calls)
  end
  rows[i] = row
  local used = {row[9], row[2] + row[3] * (1 - part), row[4] + row[5] * (1 - part), row[7], row[8]}
  for n = 1, 5 do
    local left = limit(i, n) - used[n]
    -- The tokens of a call are known when it has ended.
    local allowed = n <= 2 and math.max(0, math.floor(left)) or left > 0 and granted or 0
    if limit(i, n) >= 0 and allowed < granted then granted, refuses = allowed, {i, n} end
  end
end
local result = {granted, refuses[1], refuses[2], tostring(now)}
for i, row in ipairs(rows) do
  if granted > 0 then
    row[2] = row[2] + granted
    write(KEYS[2 * i - 1], row)
    if limit(i, 1) >= 0 then
      local added = {}
      for n = first, first + granted - 1 do
        added[#added + 1], added[#added + 2] = now * 1000 + lease, ARGV[n]
      end
      redis.call('ZADD', KEYS[2 * i], unpack(added))
      redis.call('PEXPIRE', KEYS[2 * i], lease)
      row[9] = row[9] + granted
    end
  end
  for n = 1, 9 do result[#result + 1] = tostring(row[n]) end
end
return result
"""
)
# KEYS: the hash of each subject. ARGV: tokens and money.
_CHARGE = (
    _READ
    + """
for _, key in ipairs(KEYS) do
  local row = read(key)
  row[4], row[7], row[8] = row[4] + ARGV[1], row[7] + ARGV[1], row[8] + ARGV[2]
  write(key, row)
end
"""
)


@dataclass(frozen=True)
class Subject:
    """A key or a tenant that has limits.

    Attributes:
        kind: ``key`` or ``tenant``.
        tenant: the tenant, or the key's tenant.
        name: the name in Redis among the subjects of the tenant.
        limits: the limits.
    """

    kind: str
    tenant: str
    name: str
    limits: Limits


Subjects = tuple[Subject, ...]


@dataclass(frozen=True)
class Decision:
    """How many calls are admitted.

    Attributes:
        counts: the counters of each subject, with the calls that are admitted.
        granted: how many of the calls are admitted, the first ones.
        subject: the subject whose limit refuses the others, or None.
        limit: the name of the limit that refuses them.
    """

    counts: list[Counts]
    granted: int = 1
    subject: Subject | None = None
    limit: str = ""


def subjects_of(key: Key, tenant_limits: Limits) -> Subjects:
    """Return the subjects whose limits apply to the calls of a key."""
    found = (
        Subject("key", key.tenant, key.sha256[:32], key.limits),
        Subject("tenant", key.tenant, "tenant", tenant_limits),
    )
    return tuple(subject for subject in found if subject.limits)


class LimitStore:
    """Counts calls. Every method raises ``redis.RedisError`` if Redis cannot execute a command.

    Args:
        redis: the client.
        prefix: what every key begins with.
        hash_tag: returns the hash tag of a tenant's counters. It raises Unavailable while the
            secret that keys it is unknown, and so do the methods.
    """

    def __init__(
        self, redis: Redis, prefix: str, hash_tag: Callable[[str], Awaitable[str]]
    ) -> None:
        self._redis: Any = redis
        self._prefix = f"{prefix}gateway:limits:"
        self._hash_tag = hash_tag

    async def acquire(
        self,
        calls: Mapping[Subjects, Sequence[str]],
        ended: Mapping[Subject, Sequence[str]] | None = None,
    ) -> list[Decision]:
        """Count some calls as ended, and then new ones as far as their limits allow.

        Args:
            calls: the ids of the calls of each key, at most ``MAX_CALLS``.
            ended: the ids of the ended calls of each subject.

        Returns:
            The decision on the calls of each key.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            for subject, ids in (ended or {}).items():
                pipe.zrem((await self._keys(subject))[1], *ids)
            for subjects, ids in calls.items():
                keys = [key for subject in subjects for key in await self._keys(subject)]
                pipe.eval(
                    _ACQUIRE, len(keys), *keys, LEASE_SECONDS * 1000, *_limits(subjects), *ids
                )
            replies = await pipe.execute()
        found = zip(calls, replies[len(ended or {}) :], strict=True)
        return [_decision(subjects, reply) for subjects, reply in found]

    async def charge(self, subjects: Sequence[Subject], tokens: float, money: float) -> None:
        """Count the tokens and the money of a call."""
        keys = [(await self._keys(subject))[0] for subject in subjects]
        await self._redis.eval(_CHARGE, len(keys), *keys, tokens, money)

    async def renew(self, calls: Sequence[tuple[Subject, str]]) -> None:
        """Extend the leases of calls in flight."""
        until = (time.time() + LEASE_SECONDS) * 1000
        async with self._redis.pipeline(transaction=False) as pipe:
            for subject, call in calls:
                key = (await self._keys(subject))[1]
                pipe.zadd(key, {call: until})
                pipe.expire(key, LEASE_SECONDS)
            await pipe.execute()

    async def _keys(self, subject: Subject) -> tuple[str, str]:
        name = f"{self._prefix}{await self._hash_tag(subject.tenant)}:{subject.name}"
        return name, f"{name}:calls"


def _limits(subjects: Subjects) -> list[float]:
    return [
        _UNLIMITED if (value := getattr(subject.limits, name)) is None else value
        for subject in subjects
        for name in LIMITS
    ]


def _decision(subjects: Subjects, reply: Sequence[Any]) -> Decision:
    granted, refusing, limit, now, *numbers = reply
    counts = [
        _counts(float(now), list(map(float, numbers[first : first + _COUNTERS])))
        for first in range(0, len(numbers), _COUNTERS)
    ]
    if not refusing:
        return Decision(counts, granted)
    return Decision(counts, granted, subjects[refusing - 1], LIMITS[limit - 1])


def _counts(now: float, row: list[float]) -> Counts:
    return Counts(now, row[1], row[2], row[3], row[4], row[6], row[7], int(row[8]))
