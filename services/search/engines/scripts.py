"""Lua scripts that change a collection atomically.

Every script receives the version of the record that its caller has read. If the record has changed
since, the script changes nothing and returns ``stale``, and the caller reads the record again.
Without ``allow-oom`` Redis refuses the whole script when memory is short, before any change.
KEYS, unless a script says otherwise: 1 record, 2 ids, 3 expiries, 4 vector set, 5 vector set that a
reindex is building (or 4 again), then one key for each document (``Keys.script_keys``).
"""

STALE = b"stale"

_WRITING = "#!lua"
_FREEING = "#!lua flags=allow-oom"
_CHECK_VERSION = """
if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then return 'stale' end
"""

# Adds a vector. ARGV[options] and the three that follow: quantization, EF, M, REDUCE or 0.
_ADD = """
local function add(key, vector, id, attributes, options)
  local quantization, ef, m, reduced = unpack(ARGV, options, options + 3)
  if reduced == '0' then
    redis.call('VADD', key, 'FP32', vector, id, quantization, 'EF', ef, 'SETATTR', attributes,
      'M', m)
  else
    redis.call('VADD', key, 'REDUCE', reduced, 'FP32', vector, id, quantization, 'EF', ef,
      'SETATTR', attributes, 'M', m)
  end
end
"""

# BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009) as a sorted set for
# each stem, with tf / (tf + k1 (1 - b + b length / average)) of every document that contains it.
_K1, _B = 1.2, 0.75
_TERMS = f"""
local function remove_terms(key, prefix, id)
  local old = redis.call('HGET', key, 's')
  for stem in string.gmatch(old or '', '%S+') do redis.call('ZREM', prefix .. stem, id) end
end
local function add_terms(stems, prefix, id, average)
  local counts, length = {{}}, 0
  for stem in string.gmatch(stems, '%S+') do
    counts[stem] = (counts[stem] or 0) + 1
    length = length + 1
  end
  for stem, count in pairs(counts) do
    local weight = count / (count + {_K1} * ({1 - _B} + {_B} * length / average))
    redis.call('ZADD', prefix .. stem, weight, id)
  end
end
"""

# Documents can be pending in a batch (``batches``). A write on behalf of a batch skips those that
# are no longer pending in it, and every write or deletion ends the pending state.
_PENDING = """
local pending = string.sub(KEYS[2], 1, -4) .. 'pending'
local function is_replaced(batch, id)
  if batch ~= '' and redis.call('HGET', pending, id) ~= batch then return true end
  redis.call('HDEL', pending, id)
  return false
end
"""

# ARGV: version, options as in _ADD for both sets, key prefix of the stems, average length, batch or
# '', then for each document: id, transformed vector, transformed vector for the set being built or
# '', attributes, expiry in ms or 0, vector, fields, text, payload, stems. Returns for each document
# 1 if it is new, and 0 otherwise.
_UPSERT = f"""{_CHECK_VERSION}{_ADD}{_TERMS}{_PENDING}
local created, prefix, average = {{}}, ARGV[10], tonumber(ARGV[11])
local function write(key, at)
  local id, transformed, newest, attributes, expiry = unpack(ARGV, at, at + 4)
  local vector, fields, text, payload, stems = unpack(ARGV, at + 5, at + 9)
  if is_replaced(ARGV[12], id) then return 0 end
  local is_new = 1 - redis.call('EXISTS', key)
  remove_terms(key, prefix, id)
  redis.call('DEL', key)
  redis.call('HSET', key, 'v', vector, 'f', fields, 't', text, 'p', payload)
  if stems ~= '' then
    redis.call('HSET', key, 's', stems)
    add_terms(stems, prefix, id, average)
  end
  redis.call('ZADD', KEYS[2], 0, id)
  add(KEYS[4], transformed, id, attributes, 2)
  if newest ~= '' then add(KEYS[5], newest, id, attributes, 6) end
  if expiry ~= '0' then
    redis.call('PEXPIREAT', key, expiry)
    redis.call('ZADD', KEYS[3], expiry, id)
  else
    redis.call('ZREM', KEYS[3], id)
  end
  return is_new
end
for number = 6, #KEYS do
  created[number - 5] = write(KEYS[number], 13 + (number - 6) * 10)
end
return created
"""
UPSERT, UPSERT_PENDING = _WRITING + _UPSERT, _FREEING + _UPSERT

# ARGV: version, time in ms by which documents must have expired or 'all', key prefix of the stems,
# then the ids. Returns the number of deleted documents.
DELETE = f"""{_FREEING}{_CHECK_VERSION}{_TERMS}{_PENDING}
local deleted = 0
for number = 6, #KEYS do
  local id = ARGV[number - 2]
  local expiry = redis.call('ZSCORE', KEYS[3], id)
  if ARGV[2] == 'all' or (expiry and tonumber(expiry) <= tonumber(ARGV[2])) then
    deleted = deleted + redis.call('ZREM', KEYS[2], id)
    -- A new version that is pending is written even if the old one expires before.
    if ARGV[2] == 'all' then is_replaced('', id) end
    redis.call('ZREM', KEYS[3], id)
    remove_terms(KEYS[number], ARGV[3], id)
    redis.call('DEL', KEYS[number])
    redis.call('VREM', KEYS[4], id)
    if KEYS[5] ~= KEYS[4] then redis.call('VREM', KEYS[5], id) end
  end
end
return deleted
"""

# Replaces the stems of documents. ARGV: version, key prefix of the stems or '' if the Query Engine
# ranks, average length, then for each document: id, text, stems. A document with another text was
# written after the caller read it.
WRITE_STEMS = f"""{_WRITING}{_CHECK_VERSION}{_TERMS}
for number = 6, #KEYS do
  local id, text, stems = unpack(ARGV, 4 + (number - 6) * 3, 6 + (number - 6) * 3)
  if redis.call('HGET', KEYS[number], 't') == text then
    if ARGV[2] ~= '' then
      remove_terms(KEYS[number], ARGV[2], id)
      add_terms(stems, ARGV[2], id, tonumber(ARGV[3]))
    end
    redis.call('HSET', KEYS[number], 's', stems)
  end
end
return 'written'
"""

# Copies documents to the set that a reindex is building. ARGV: version, options as in _ADD, then
# for each document: id, transformed vector, attributes. A document that the new set already has was
# written after the caller read it, so the set has the newer one; a deleted one is left out.
COPY = f"""{_WRITING}{_CHECK_VERSION}{_ADD}
local at = 6
for number = 6, #KEYS do
  local id, transformed, attributes = unpack(ARGV, at, at + 2)
  if redis.call('EXISTS', KEYS[number]) == 1 and not redis.call('VGETATTR', KEYS[5], id) then
    add(KEYS[5], transformed, id, attributes, 2)
  end
  at = at + 3
end
return 'copied'
"""

# Finds out whether every document still has the fields that the caller has read.
_FIND_CONFLICT = """
local function find_conflict(first, step)
  for number = 6, #KEYS do
    local fields = redis.call('HGET', KEYS[number], 'f')
    if not fields then return 'missing' end
    if fields ~= ARGV[first + (number - 6) * step] then return 'changed' end
  end
end
"""

# ARGV: version, then for each document: id, fields that the caller has read, new fields, new
# attributes. Returns 'updated', or changes nothing and returns 'changed' or 'missing'.
UPDATE_FIELDS = f"""{_WRITING}{_CHECK_VERSION}{_FIND_CONFLICT}
local conflict = find_conflict(3, 4)
if conflict then return conflict end
for number = 6, #KEYS do
  local id, _, fields, attributes = unpack(ARGV, 2 + (number - 6) * 4, 5 + (number - 6) * 4)
  redis.call('HSET', KEYS[number], 'f', fields)
  redis.call('VSETATTR', KEYS[4], id, attributes)
  if KEYS[5] ~= KEYS[4] then redis.call('VSETATTR', KEYS[5], id, attributes) end
end
return 'updated'
"""

# The same for the Query Engine. ARGV: version, number of hash fields, their names, then for each
# document: fields that the caller has read, hash fields and values to set as JSON. Named hash
# fields that are not set are removed.
UPDATE_HASHES = f"""{_WRITING}{_CHECK_VERSION}{_FIND_CONFLICT}
local first = 3 + tonumber(ARGV[2])
local conflict = find_conflict(first, 2)
if conflict then return conflict end
for number = 6, #KEYS do
  local key = KEYS[number]
  if first > 3 then redis.call('HDEL', key, unpack(ARGV, 3, first - 1)) end
  redis.call('HSET', key, unpack(cjson.decode(ARGV[first + 1 + (number - 6) * 2])))
end
return 'updated'
"""

# Writes documents for the Query Engine. ARGV: version, batch or '', then for each document: id,
# expiry in ms or 0, number of arguments that follow, hash fields and values. Returns for each
# document 1 if it is new, and 0 otherwise.
_UPSERT_HASHES = f"""{_CHECK_VERSION}{_PENDING}
local created, at = {{}}, 3
local function write(key, id, expiry, count)
  if is_replaced(ARGV[2], id) then return 0 end
  local is_new = 1 - redis.call('EXISTS', key)
  redis.call('DEL', key)
  redis.call('HSET', key, unpack(ARGV, at + 3, at + 2 + count))
  redis.call('ZADD', KEYS[2], 0, id)
  if expiry ~= '0' then
    redis.call('PEXPIREAT', key, expiry)
    redis.call('ZADD', KEYS[3], expiry, id)
  else
    redis.call('ZREM', KEYS[3], id)
  end
  return is_new
end
for number = 6, #KEYS do
  local count = tonumber(ARGV[at + 2])
  created[number - 5] = write(KEYS[number], ARGV[at], ARGV[at + 1], count)
  at = at + 3 + count
end
return created
"""
UPSERT_HASHES, UPSERT_PENDING_HASHES = _WRITING + _UPSERT_HASHES, _FREEING + _UPSERT_HASHES

# Adds the vectors of the index that a reindex is building. ARGV: version, hash field of the
# vectors, then for each document: id, encoded vector.
COPY_HASHES = f"""{_WRITING}{_CHECK_VERSION}
for number = 6, #KEYS do
  local key = KEYS[number]
  if redis.call('EXISTS', key) == 1 and redis.call('HEXISTS', key, ARGV[2]) == 0 then
    redis.call('HSET', key, ARGV[2], ARGV[3 + 2 * (number - 6) + 1])
  end
end
return 'copied'
"""

# A text query ranks by up to this many stems, those in the fewest documents. Lua's stack holds
# about 8,000 values, and ZUNIONSTORE takes two for each stem.
MAX_STEMS = 512

# Ranks documents by BM25. KEYS: 1 ids, 2 scratch. ARGV: key prefix of the stems, count, then the
# stems. Returns ids and scores, best first. The inverse document frequency of a stem that n of N
# documents contain is log(1 + (N - n + 1/2) / (n + 1/2)).
SEARCH_TEXT = f"""{_FREEING}
local total, stems = redis.call('ZCARD', KEYS[1]), {{}}
for at = 3, #ARGV do
  local containing = redis.call('ZCARD', ARGV[1] .. ARGV[at])
  if containing > 0 then stems[#stems + 1] = {{ARGV[at], containing}} end
end
if #stems == 0 then return {{}} end
table.sort(stems, function(one, other)
  if one[2] ~= other[2] then return one[2] < other[2] end
  return one[1] < other[1]
end)
local used = math.min(#stems, {MAX_STEMS})
local union = {{'ZUNIONSTORE', KEYS[2], used}}
for at = 1, used do union[at + 3] = ARGV[1] .. stems[at][1] end
union[used + 4] = 'WEIGHTS'
for at = 1, used do
  local containing = stems[at][2]
  local idf = math.log(1 + (total - containing + 0.5) / (containing + 0.5))
  union[used + at + 4] = string.format('%.17g', idf)
end
redis.call(unpack(union))
local found = redis.call('ZREVRANGE', KEYS[2], 0, ARGV[2] - 1, 'WITHSCORES')
redis.call('UNLINK', KEYS[2])
return found
"""

# KEYS: 1 record. ARGV: expected version ('' for no record), new version, new record. Returns 1, or
# 0 if the version differs.
REPLACE_RECORD = f"""{_WRITING}
if (redis.call('HGET', KEYS[1], 'version') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'record', ARGV[3])
return 1
"""

# KEYS: 1 record of the alias. ARGV: name of the collection. An alias occupies the key of a record,
# so that no collection can have its name. Returns the name that the alias pointed to before ('' if
# none), or false if a collection has the name.
ASSIGN_ALIAS = f"""{_WRITING}
if redis.call('HEXISTS', KEYS[1], 'record') == 1 then return false end
local previous = redis.call('HGET', KEYS[1], 'alias') or ''
redis.call('HSET', KEYS[1], 'version', 'alias', 'alias', ARGV[1])
return previous
"""

# KEYS: 1 record of the alias. ARGV: name of the collection that it must point to, or ''. Returns
# the name that it pointed to, or false if there is no such alias.
DELETE_ALIAS = f"""{_FREEING}
local previous = redis.call('HGET', KEYS[1], 'alias')
if previous and (ARGV[1] == '' or ARGV[1] == previous) then redis.call('DEL', KEYS[1]) end
return previous
"""

# KEYS: 1 record. ARGV: expected version.
DELETE_RECORD = f"""{_FREEING}{_CHECK_VERSION}
return redis.call('DEL', KEYS[1])
"""
