"""Counts what keys and tenants use, for all replicas, in Redis.

Keys, under the prefix of the settings, with the hash tag of the tenant:

- ``limits:{<tenant>}:<subject>``        a hash: the counters of this minute, of the minute before
  and of this day; the subject is ``tenant`` or a key
- ``limits:{<tenant>}:<subject>:calls``  a sorted set of the calls in flight by the time in
  milliseconds at which a replica that has died no longer counts
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from services.gateway.auth.counts import LIMITS, Counts
from services.key_file import Key, Limits

LEASE_SECONDS = 60
_UNLIMITED = -1
_KEYS = 2  # of each subject
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
# KEYS: the hash and the calls of each subject. ARGV: the call's id, the lease in milliseconds, and
# for each subject its five limits. Returns the number of the subject and of the limit that refuses
# the call, or 0 and 0, and the counters of each subject.
_ACQUIRE = (
    _READ
    + """
local part, rows, refuses = now / 60 - minute, {}, {0, 0}
for i = 1, #KEYS / 2 do
  local row, calls = read(KEYS[2 * i - 1]), KEYS[2 * i]
  redis.call('ZREMRANGEBYSCORE', calls, '-inf', now * 1000)
  row[9] = redis.call('ZCARD', calls)
  rows[i] = row
  local used = {row[9], row[2] + row[3] * (1 - part), row[4] + row[5] * (1 - part), row[7], row[8]}
  for n = 1, 5 do
    local limit = tonumber(ARGV[2 + 5 * (i - 1) + n])
    local is_full = used[n] >= limit
    if n == 2 then is_full = used[n] + 1 > limit end
    if limit >= 0 and is_full and refuses[1] == 0 then refuses = {i, n} end
  end
end
local result = {refuses[1], refuses[2], tostring(now)}
for i, row in ipairs(rows) do
  if refuses[1] == 0 then
    row[2] = row[2] + 1
    write(KEYS[2 * i - 1], row)
    if tonumber(ARGV[3 + 5 * (i - 1)]) >= 0 then
      redis.call('ZADD', KEYS[2 * i], now * 1000 + ARGV[2], ARGV[1])
      redis.call('PEXPIRE', KEYS[2 * i], ARGV[2])
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
        name: the name in Redis.
        limits: the limits.
    """

    kind: str
    name: str
    limits: Limits


@dataclass(frozen=True)
class Decision:
    """Whether a call is admitted.

    Attributes:
        counts: the counters of each subject, with the call if it is admitted.
        subject: the subject whose limit refuses the call, or None.
        limit: the name of the limit that refuses it.
    """

    counts: list[Counts]
    subject: Subject | None = None
    limit: str = ""


def subjects_of(key: Key, tenant_limits: Limits) -> list[Subject]:
    """Return the subjects whose limits apply to the calls of a key."""
    tag = hashlib.sha256(key.tenant.encode()).hexdigest()[:32]
    found = [
        Subject("key", f"{{{tag}}}:{key.sha256[:32]}", key.limits),
        Subject("tenant", f"{{{tag}}}:tenant", tenant_limits),
    ]
    return [subject for subject in found if subject.limits]


class LimitStore:
    """Every method raises ``redis.RedisError`` if Redis is unreachable or refuses the command."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis: Any = redis
        self._prefix = f"{prefix}gateway:limits:"

    async def acquire(self, subjects: Sequence[Subject], call: str) -> Decision:
        """Count a call with an id, unless a limit of its subjects refuses it."""
        keys = [key for subject in subjects for key in self._keys(subject)]
        limits = [
            _UNLIMITED if (value := getattr(subject.limits, name)) is None else value
            for subject in subjects
            for name in LIMITS
        ]
        refusing, limit, now, *numbers = await self._redis.eval(
            _ACQUIRE, len(keys), *keys, call, LEASE_SECONDS * 1000, *limits
        )
        counts = [
            _counts(float(now), list(map(float, numbers[first : first + _COUNTERS])))
            for first in range(0, len(numbers), _COUNTERS)
        ]
        if not refusing:
            return Decision(counts)
        return Decision(counts, subjects[refusing - 1], LIMITS[limit - 1])

    async def charge(self, subjects: Sequence[Subject], tokens: float, money: float) -> None:
        """Count the tokens and the money of a call."""
        keys = [self._keys(subject)[0] for subject in subjects]
        await self._redis.eval(_CHARGE, len(keys), *keys, tokens, money)

    async def release(self, subjects: Sequence[Subject], call: str) -> None:
        """Count a call as ended."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for subject in subjects:
                pipe.zrem(self._keys(subject)[1], call)
            await pipe.execute()

    async def renew(self, calls: Sequence[tuple[Subject, str]]) -> None:
        """Extend the leases of calls in flight."""
        until = (time.time() + LEASE_SECONDS) * 1000
        async with self._redis.pipeline(transaction=False) as pipe:
            for subject, call in calls:
                pipe.zadd(self._keys(subject)[1], {call: until})
                pipe.expire(self._keys(subject)[1], LEASE_SECONDS)
            await pipe.execute()

    def _keys(self, subject: Subject) -> tuple[str, str]:
        name = self._prefix + subject.name
        return name, f"{name}:calls"


def _counts(now: float, row: list[float]) -> Counts:
    return Counts(now, row[1], row[2], row[3], row[4], row[6], row[7], int(row[8]))
