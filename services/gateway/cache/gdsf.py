"""Eviction by GreedyDual-Size-Frequency (GDSF), as Lua scripts that Redis runs atomically.

L. Cherkasova, HP Laboratories TR HPL-98-69R1, 1998: the priority of an entry is
``inflation + hits * cost / bytes``. The inflation value is the priority of the entry evicted last,
so new and recently used entries rank above entries whose hits are long past. The entry with the
lowest priority is evicted first. Entries that are expensive, popular or small stay.

Keys, under the prefix that every script gets. They keep the names of the first version, so existing
data remains readable:

- ``worth``     sorted set of entry ids by GDSF priority
- ``weights``   hash by entry id: bytes, cost, hits, partition and model digest
- ``ends``      sorted set of the ids of entries with a time to live, by expiry time in ms
- ``bytes``     total bytes of all entries
- ``floor``     inflation value
- ``curated``   total bytes of the curated entries, which are never evicted: their cost is infinite
- ``leaving``   hash of removed ids that search may still hold: model digest and partition
- ``unindexed`` set of the ids of entries without a vector, which the backfill adds to search
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
local function read_stats(id)
  local stats = redis.call('HGET', prefix .. 'weights', id)
  if not stats then return nil end
  local bytes, cost, hits, partition, digest = stats:match('^(%S+) (%S+) (%S+) (%S+) (%S*)$')
  return {tonumber(bytes), tonumber(cost), tonumber(hits), partition, digest}
end
local function write_stats(id, stats)
  local inflation = tonumber(redis.call('GET', prefix .. 'floor') or '0')
  -- An earlier version has evicted a curated entry.
  if inflation == math.huge then inflation = 0 end
  redis.call('HSET', prefix .. 'weights', id, table.concat(stats, ' '))
  redis.call('ZADD', prefix .. 'worth', inflation + stats[3] * stats[2] / stats[1], id)
end
local function delete(id)
  local stats = read_stats(id)
  redis.call('DEL', prefix .. 'entry:' .. id)
  redis.call('ZREM', prefix .. 'worth', id)
  redis.call('ZREM', prefix .. 'ends', id)
  redis.call('SREM', prefix .. 'unindexed', id)
  if not stats then return nil end
  redis.call('HDEL', prefix .. 'weights', id)
  redis.call('ZREM', prefix .. 'entries:' .. stats[4], id)
  redis.call('DECRBY', prefix .. 'bytes', stats[1])
  if stats[2] == math.huge then redis.call('DECRBY', prefix .. 'curated', stats[1]) end
  return stats
end
"""

# Arguments: partition, id, record, time to live in ms or 0, model digest or '' without a vector,
# expected purge count or '', bytes, cost, now in ms. Returns the total bytes, or -1 if the purge
# count differs. An entry without a vector keeps the digest of the vector that search may still
# hold, so that a deletion finds it. A vector of another model is listed for deletion.
PUT = (
    _COMMON
    + """
local partition, id, ms, now = ARGV[1], ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[9])
local purge_count = redis.call('GET', prefix .. 'purges:' .. partition) or '0'
if ARGV[6] ~= '' and ARGV[6] ~= purge_count then return -1 end
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
  digest = old and old[5] or left
  redis.call('SADD', prefix .. 'unindexed', id)
else
  redis.call('SREM', prefix .. 'unindexed', id)
end
if old and old[5] ~= '' and old[5] ~= digest then
  redis.call('HSET', prefix .. 'leaving', id, old[5] .. ' ' .. partition)
elseif left == digest then
  redis.call('HDEL', prefix .. 'leaving', id)
end
write_stats(id, {ARGV[7], ARGV[8], old and old[3] or 1, partition, digest})
local growth = ARGV[7] - (old and old[1] or 0)
if tonumber(ARGV[8]) == math.huge then redis.call('INCRBY', prefix .. 'curated', growth) end
return redis.call('INCRBY', prefix .. 'bytes', growth)
"""
)

# Arguments: ids.
DELETE = (
    _COMMON
    + """
for _, id in ipairs(ARGV) do
  local stats = delete(id)
  if stats then redis.call('HSET', prefix .. 'leaving', id, stats[5] .. ' ' .. stats[4]) end
end
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
redis.call('INCRBY', prefix .. 'bytes', ARGV[4] - stats[1])
if stats[2] == math.huge then redis.call('INCRBY', prefix .. 'curated', ARGV[4] - stats[1]) end
stats[1], stats[5] = ARGV[4], ARGV[5]
redis.call('HSET', prefix .. 'weights', ARGV[1], table.concat(stats, ' '))
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
    stats[3] = stats[3] + ARGV[index + 1]
    write_stats(ARGV[index], stats)
  end
end
"""
)

# Arguments: largest total bytes, now in ms. Returns how many entries were evicted.
EVICT = (
    _COMMON
    + f"""
local expired = redis.call(
  'ZRANGEBYSCORE', prefix .. 'ends', '-inf', ARGV[2], 'LIMIT', 0, {BATCH_SIZE})
for _, id in ipairs(expired) do delete(id) end
local count = 0
local function total() return tonumber(redis.call('GET', prefix .. 'bytes') or '0') end
while count < {BATCH_SIZE} and total() > tonumber(ARGV[1]) do
  local lowest = redis.call('ZRANGE', prefix .. 'worth', 0, 0, 'WITHSCORES')
  if not lowest[1] or tonumber(lowest[2]) == math.huge then break end
  redis.call('SET', prefix .. 'floor', lowest[2])
  local stats = delete(lowest[1])
  if stats then
    redis.call('HSET', prefix .. 'leaving', lowest[1], stats[5] .. ' ' .. stats[4])
  end
  count = count + 1
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
