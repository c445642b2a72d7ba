"""What entries are worth, and who goes first when memory is short: scripts that Redis runs.

GreedyDual-Size-Frequency (L. Cherkasova, HP Laboratories TR 98-69R1, 1998): an entry is worth
``floor + hits * cost / bytes``, where the floor is the worth of what was evicted last, at the time
that the entry was last used. So what is costly, often used and small stays, and what was once worth
much grows old. Keys, under the prefix that every script gets:

- ``worth``     sorted set of ids by their worth
- ``weights``   hash by id: bytes, cost, hits, partition and the digest of the model
- ``ends``      sorted set of the ids of entries that expire, by that time in ms
- ``bytes``     how much all take
- ``floor``     the worth of what was evicted last
- ``leaving``   hash of evicted ids that search may still have: the model's digest and partition
"""

from collections.abc import Mapping

# What an entry takes besides its record and its vector: keys, lists, links of the index. Measured
# on Redis 8.0.2 with 100,000 entries.
_OVERHEAD = 2_700
# A model reads tokens for about a quarter of what it writes them for.
_READING = 0.25
_BYTES_A_TOKEN = 4
# So many are deleted by one run of a script: Redis answers nobody else meanwhile.
AT_ONCE = 500

_COMMON = """
local prefix = KEYS[1]
local function weight(id)
  local kept = redis.call('HGET', prefix .. 'weights', id)
  if not kept then return nil end
  local bytes, cost, hits, partition, digest = kept:match('^(%S+) (%S+) (%S+) (%S+) (%S*)$')
  return {tonumber(bytes), tonumber(cost), tonumber(hits), partition, digest}
end
local function put(id, w)
  local floor = tonumber(redis.call('GET', prefix .. 'floor') or '0')
  redis.call('HSET', prefix .. 'weights', id, table.concat(w, ' '))
  redis.call('ZADD', prefix .. 'worth', floor + w[3] * w[2] / w[1], id)
end
local function drop(id)
  local w = weight(id)
  redis.call('DEL', prefix .. 'entry:' .. id)
  redis.call('ZREM', prefix .. 'worth', id)
  redis.call('ZREM', prefix .. 'ends', id)
  if not w then return nil end
  redis.call('HDEL', prefix .. 'weights', id)
  redis.call('ZREM', prefix .. 'entries:' .. w[4], id)
  redis.call('DECRBY', prefix .. 'bytes', w[1])
  return w
end
"""

# partition, id, record, ms to live or 0, digest, known purges or '', bytes, cost, now in ms
WRITE = (
    _COMMON
    + """
local partition, id, ms, now = ARGV[1], ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[9])
local purges = redis.call('GET', prefix .. 'purges:' .. partition) or '0'
if ARGV[6] ~= '' and ARGV[6] ~= purges then return -1 end
local old = weight(id)
if ms == 0 then
  redis.call('SET', prefix .. 'entry:' .. id, ARGV[3])
  redis.call('ZREM', prefix .. 'ends', id)
else
  redis.call('SET', prefix .. 'entry:' .. id, ARGV[3], 'PX', ms)
  redis.call('ZADD', prefix .. 'ends', now + ms, id)
end
redis.call('ZADD', prefix .. 'entries:' .. partition, 0, id)
redis.call('HDEL', prefix .. 'leaving', id)
put(id, {ARGV[7], ARGV[8], old and old[3] or 1, partition, ARGV[5]})
return redis.call('INCRBY', prefix .. 'bytes', ARGV[7] - (old and old[1] or 0))
"""
)

# ids
DELETE = _COMMON + "for _, id in ipairs(ARGV) do drop(id) end"

# ids, each with its hits
TOUCH = (
    _COMMON
    + """
for place = 1, #ARGV, 2 do
  local w = weight(ARGV[place])
  if w then
    w[3] = w[3] + ARGV[place + 1]
    put(ARGV[place], w)
  end
end
"""
)

# bytes that all may take, now in ms
EVICT = (
    _COMMON
    + f"""
local ended = redis.call(
  'ZRANGEBYSCORE', prefix .. 'ends', '-inf', ARGV[2], 'LIMIT', 0, {AT_ONCE})
for _, id in ipairs(ended) do drop(id) end
local count = 0
local function taken() return tonumber(redis.call('GET', prefix .. 'bytes') or '0') end
while count < {AT_ONCE} and taken() > tonumber(ARGV[1]) do
  local least = redis.call('ZRANGE', prefix .. 'worth', 0, 0, 'WITHSCORES')
  if not least[1] then break end
  redis.call('SET', prefix .. 'floor', least[2])
  local w = drop(least[1])
  if w then redis.call('HSET', prefix .. 'leaving', least[1], w[5] .. ' ' .. w[4]) end
  count = count + 1
end
return count
"""
)


def footprint(record: bytes, vector: str) -> int:
    """Return about how many bytes an entry takes: here, and twice its float32 vector in search.

    ``vector`` is base64 of float16.
    """
    return len(record) + 3 * len(vector) + _OVERHEAD


def cost(usage: Mapping[str, float], response: str) -> float:
    """Return what making an answer took, in tokens written; guessed from it if nobody says."""
    took = usage.get("completion_tokens", 0) + _READING * usage.get("prompt_tokens", 0)
    return took or len(response) / _BYTES_A_TOKEN
