"""Eviction by GreedyDual-Size-Frequency (GDSF), as Lua scripts that Redis runs atomically.

L. Cherkasova, HP Laboratories TR HPL-98-69R1, 1998: the priority of an entry is
``inflation + hits * cost / bytes``. The inflation value is the priority of the entry evicted last,
so new and recently used entries rank above entries whose hits are long past. The entry with the
lowest priority is evicted first. Entries that are expensive, popular or small stay.

The eviction takes from the tenant whose entries take the most bytes. So a tenant that takes no more
than an equal share loses no entry to another one.

Keys, under the prefix that every script gets. They keep the names of the first version, so existing
data remains readable. An eviction compares entries of all scopes, so a cluster keeps all keys in
one slot, see ``redis_store.one_slot``:

- ``worth:<tenant>``   sorted set of a tenant's entry ids by GDSF priority
- ``floor:<tenant>``   inflation value of a tenant
- ``tenants``          sorted set of the tenants by the bytes of their entries
- ``weights``          hash by entry id: bytes, cost, hits, partition@tenant and model digest
- ``ends``             sorted set of the ids of entries with a time to live, by expiry time in ms
- ``bytes``            total bytes of all entries
- ``curated``          total bytes of the curated entries, which are never evicted: their cost is
                       infinite; ``curated:<tenant>`` has those of a tenant
- ``leaving``          hash of removed ids that search may still hold: model digest and partition
- ``unindexed``        set of the ids of entries without a vector, which the backfill adds to search

Earlier versions had one priority order, ``worth`` and ``floor``. Their entries belong to a tenant
with the empty name until they are written again.
"""

from collections.abc import Mapping
from typing import Any

from services.gateway.cache.curated import is_curated

# Bytes of an entry besides its record and its vector: keys, lists, links of the index. Measured on
# Redis 8.0.2 with 100,000 entries.
_OVERHEAD = 2_700
# A prompt token costs about a quarter of a completion token.
_PROMPT_TOKEN_COST = 0.25
_BYTES_PER_TOKEN = 4
# Redis never evicts an entry of this cost.
CURATED_COST = "inf"
# A script deletes at most this many entries, because Redis runs no other command meanwhile.
BATCH_SIZE = 500

_COMMON = """
local prefix = KEYS[1]
local function key_of(name, tenant)
  return prefix .. name .. (tenant == '' and '' or ':' .. tenant)
end
local function read_stats(id)
  local row = redis.call('HGET', prefix .. 'weights', id)
  if not row then return nil end
  local bytes, cost, hits, owner, digest = row:match('^(%S+) (%S+) (%S+) (%S+) (%S*)$')
  local partition, tenant = owner:match('^([^@]*)@?(.*)$')
  return {bytes = tonumber(bytes), cost = tonumber(cost), hits = tonumber(hits),
          partition = partition, tenant = tenant, digest = digest}
end
local function write_row(id, stats)
  local owner = stats.partition .. (stats.tenant == '' and '' or '@' .. stats.tenant)
  local row = {stats.bytes, stats.cost, stats.hits, owner, stats.digest}
  redis.call('HSET', prefix .. 'weights', id, table.concat(row, ' '))
end
local function write_stats(id, stats)
  local inflation = tonumber(redis.call('GET', key_of('floor', stats.tenant)) or '0')
  -- An earlier version has evicted a curated entry.
  if inflation == math.huge then inflation = 0 end
  write_row(id, stats)
  local priority = inflation + stats.hits * stats.cost / stats.bytes
  redis.call('ZADD', key_of('worth', stats.tenant), priority, id)
end
local function grow(stats, bytes)
  local tenants = prefix .. 'tenants'
  if redis.call('EXISTS', tenants) == 0 then
    redis.call('ZADD', tenants, redis.call('GET', prefix .. 'bytes') or '0', '')
  end
  local taken = tonumber(redis.call('ZINCRBY', tenants, bytes, stats.tenant))
  if taken <= 0 and stats.tenant ~= '' then
    redis.call('ZREM', tenants, stats.tenant)
    redis.call('DEL', key_of('floor', stats.tenant))
  end
  if tonumber(stats.cost) == math.huge then
    redis.call('INCRBY', prefix .. 'curated', bytes)
    local own = key_of('curated', stats.tenant)
    if stats.tenant ~= '' and redis.call('INCRBY', own, bytes) <= 0 then redis.call('DEL', own) end
  end
  return {redis.call('INCRBY', prefix .. 'bytes', bytes), taken}
end
local function delete(id)
  local stats = read_stats(id)
  redis.call('DEL', prefix .. 'entry:' .. id)
  redis.call('ZREM', prefix .. 'ends', id)
  redis.call('SREM', prefix .. 'unindexed', id)
  if not stats then return nil end
  redis.call('HDEL', prefix .. 'weights', id)
  redis.call('ZREM', key_of('worth', stats.tenant), id)
  redis.call('ZREM', prefix .. 'entries:' .. stats.partition, id)
  grow(stats, -stats.bytes)
  return stats
end
local function leave(id)
  local stats = delete(id)
  if stats then
    redis.call('HSET', prefix .. 'leaving', id, stats.digest .. ' ' .. stats.partition)
  end
end
"""

# Arguments: partition, id, record, time to live in ms or 0, model digest or '' without a vector,
# expected purge count or '', bytes, cost, now in ms, tenant, purge group. Returns the bytes of all
# entries and those of the tenant, or -1 twice if the purge count differs. An entry without a vector
# keeps the digest of the vector that search may still hold, so that a deletion finds it. A vector
# of another model is listed for deletion.
PUT = (
    _COMMON
    + """
local partition, id, ms, now = ARGV[1], ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[9])
local tenant = ARGV[10]
local purge_count = redis.call('HGET', prefix .. 'purge_counts:' .. tenant, ARGV[11]) or '0'
if ARGV[6] ~= '' and ARGV[6] ~= purge_count then return {-1, -1} end
local old = read_stats(id)
if ms == 0 then
  redis.call('SET', prefix .. 'entry:' .. id, ARGV[3])
  redis.call('ZREM', prefix .. 'ends', id)
else
  redis.call('SET', prefix .. 'entry:' .. id, ARGV[3], 'PX', ms)
  redis.call('ZADD', prefix .. 'ends', now + ms, id)
end
redis.call('ZADD', prefix .. 'entries:' .. partition, 0, id)
local leaving = redis.call('HGET', prefix .. 'leaving', id) or ''
local digest, left = ARGV[5], leaving:match('^%S*')
if digest == '' then
  digest = old and old.digest or left
  redis.call('SADD', prefix .. 'unindexed', id)
else
  redis.call('SREM', prefix .. 'unindexed', id)
end
if old and old.digest ~= '' and old.digest ~= digest then
  redis.call('HSET', prefix .. 'leaving', id, old.digest .. ' ' .. partition)
elseif left == digest then
  redis.call('HDEL', prefix .. 'leaving', id)
end
if old then
  grow(old, -old.bytes)
  redis.call('ZREM', key_of('worth', old.tenant), id)
end
local stats = {bytes = ARGV[7], cost = ARGV[8], hits = old and old.hits or 1,
               partition = partition, tenant = tenant, digest = digest}
write_stats(id, stats)
return grow(stats, ARGV[7])
"""
)

# Arguments: ids.
DELETE = (
    _COMMON
    + """
for _, id in ipairs(ARGV) do leave(id) end
"""
)

# Arguments: id, the record as read, the new record, bytes, model digest. Replaces a record unless
# it has changed since it was read. The priority, the hits and the time to live stay the same.
# Returns 1 if it replaced the record.
REPLACE = (
    _COMMON
    + """
local key, stats = prefix .. 'entry:' .. ARGV[1], read_stats(ARGV[1])
if not stats or redis.call('GET', key) ~= ARGV[2] then return 0 end
redis.call('SET', key, ARGV[3], 'KEEPTTL')
grow(stats, ARGV[4] - stats.bytes)
stats.bytes, stats.digest = ARGV[4], ARGV[5]
write_row(ARGV[1], stats)
if ARGV[5] ~= '' then redis.call('SREM', prefix .. 'unindexed', ARGV[1]) end
return 1
"""
)

# Arguments: ids, each followed by its number of new hits.
RECORD_HITS = (
    _COMMON
    + """
for index = 1, #ARGV, 2 do
  local stats = read_stats(ARGV[index])
  if stats then
    stats.hits = stats.hits + ARGV[index + 1]
    write_stats(ARGV[index], stats)
  end
end
"""
)

# Arguments: largest bytes of all entries, now in ms, largest bytes of one tenant's entries. Returns
# how many entries were evicted. ``place`` passes over the tenants whose entries are all curated.
EVICT = (
    _COMMON
    + f"""
local expired = redis.call(
  'ZRANGEBYSCORE', prefix .. 'ends', '-inf', ARGV[2], 'LIMIT', 0, {BATCH_SIZE})
for _, id in ipairs(expired) do delete(id) end
local count, place = 0, 0
while count < {BATCH_SIZE} do
  local top = redis.call('ZREVRANGE', prefix .. 'tenants', place, place, 'WITHSCORES')
  local total = tonumber(redis.call('GET', prefix .. 'bytes') or '0')
  if not top[1] then break end
  if total <= tonumber(ARGV[1]) and tonumber(top[2]) <= tonumber(ARGV[3]) then break end
  local worth = key_of('worth', top[1])
  local lowest = redis.call('ZRANGE', worth, 0, 0, 'WITHSCORES')
  if not lowest[1] or tonumber(lowest[2]) == math.huge then
    place = place + 1
  else
    redis.call('SET', key_of('floor', top[1]), lowest[2])
    redis.call('ZREM', worth, lowest[1])
    leave(lowest[1])
    count = count + 1
  end
end
return count
"""
)


def estimate_bytes(record: bytes, vector: str) -> int:
    """Estimate the bytes that an entry takes in Redis: its record, and its vector in search.

    ``vector`` is base64 of float16. Search holds the vector twice, as float32.
    """
    return len(record) + 3 * len(vector) + _OVERHEAD


def estimate_cost(usage: Mapping[str, float], response: str) -> float:
    """Return what a response cost, in completion tokens.

    Without usage, the length of the response gives an estimate.
    """
    tokens = usage.get("completion_tokens", 0)
    tokens += _PROMPT_TOKEN_COST * usage.get("prompt_tokens", 0)
    return tokens or len(response) / _BYTES_PER_TOKEN


def entry_cost(record: Mapping[str, Any]) -> float | str:
    """Return the cost of an entry's record."""
    if is_curated(record["id"]):
        return CURATED_COST
    return estimate_cost(record["usage"], record["response"])
