"""Lua scripts that change a collection in one step, or not at all.

Every script is given the version of the collection's record that its caller has read; if the
record has changed since, it changes nothing and returns ``stale``, and the caller reads it again.
Without ``allow-oom`` Redis refuses the whole script when memory is short, before any change.
Keys: 1 record, 2 ids, 3 expiries, 4 vector set, 5 vector set being built or the same as 4, then
one for each document.
"""

_WRITES = "#!lua"
_FREES = "#!lua flags=allow-oom"
_FRESH = """
if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then return 'stale' end
"""

# Adds with the options that begin at an argument: quantization, EF, M, dimensions to keep or 0.
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

# BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009) in sorted sets: one
# for each stem, with tf / (tf + k1 (1 - b + b length / average)) of each document that has it.
_K1, _B = 1.2, 0.75
_TERMS = f"""
local function unlist(key, terms, id)
  local old = redis.call('HGET', key, 's')
  for stem in string.gmatch(old or '', '%S+') do redis.call('ZREM', terms .. stem, id) end
end
local function list(stems, terms, id, average)
  local counts, length = {{}}, 0
  for stem in string.gmatch(stems, '%S+') do
    counts[stem] = (counts[stem] or 0) + 1
    length = length + 1
  end
  for stem, count in pairs(counts) do
    local weight = count / (count + {_K1} * ({1 - _B} + {_B} * length / average))
    redis.call('ZADD', terms .. stem, weight, id)
  end
end
"""

# ARGV: version, options as in _ADD for both sets, beginning of the keys of stems, average length,
# then for each document: id, lifted vector, lifted vector for the set being built or nothing,
# attributes, expiry in ms or 0, vector, fields, text, payload, stems. Returns for each 1 if it is
# new, else 0.
UPSERT = f"""{_WRITES}{_FRESH}{_ADD}{_TERMS}
local created, terms, average = {{}}, ARGV[10], tonumber(ARGV[11])
local at = 12
for number = 6, #KEYS do
  local id, lifted, other, attributes, expiry = unpack(ARGV, at, at + 4)
  local vector, fields, text, payload, stems = unpack(ARGV, at + 5, at + 9)
  local key = KEYS[number]
  created[number - 5] = 1 - redis.call('EXISTS', key)
  unlist(key, terms, id)
  redis.call('DEL', key)
  redis.call('HSET', key, 'v', vector, 'f', fields, 't', text, 'p', payload)
  if stems ~= '' then
    redis.call('HSET', key, 's', stems)
    list(stems, terms, id, average)
  end
  redis.call('ZADD', KEYS[2], 0, id)
  add(KEYS[4], lifted, id, attributes, 2)
  if other ~= '' then add(KEYS[5], other, id, attributes, 6) end
  if expiry ~= '0' then
    redis.call('PEXPIREAT', key, expiry)
    redis.call('ZADD', KEYS[3], expiry, id)
  else
    redis.call('ZREM', KEYS[3], id)
  end
  at = at + 10
end
return created
"""

# ARGV: version, time in ms before which documents have expired or 'all', beginning of the keys of
# stems, then the ids.
DELETE = f"""{_FREES}{_FRESH}{_TERMS}
local deleted = 0
for number = 6, #KEYS do
  local id = ARGV[number - 2]
  local expiry = redis.call('ZSCORE', KEYS[3], id)
  if ARGV[2] == 'all' or (expiry and tonumber(expiry) <= tonumber(ARGV[2])) then
    deleted = deleted + redis.call('ZREM', KEYS[2], id)
    redis.call('ZREM', KEYS[3], id)
    unlist(KEYS[number], ARGV[3], id)
    redis.call('DEL', KEYS[number])
    redis.call('VREM', KEYS[4], id)
    if KEYS[5] ~= KEYS[4] then redis.call('VREM', KEYS[5], id) end
  end
end
return deleted
"""

# ARGV: version, options as in _ADD, then for each document: id, lifted vector, attributes. One
# that is in the new set already was written since it was read, and is newer there; or it is gone.
COPY = f"""{_WRITES}{_FRESH}{_ADD}
local at = 6
for number = 6, #KEYS do
  local id, lifted, attributes = unpack(ARGV, at, at + 2)
  if redis.call('EXISTS', KEYS[number]) == 1 and not redis.call('VGETATTR', KEYS[5], id) then
    add(KEYS[5], lifted, id, attributes, 2)
  end
  at = at + 3
end
return 'copied'
"""

# Nothing is changed unless every document still has the fields that the caller has read. ARGV:
# version, then for each document: id, fields as they were, fields as they are to be, attributes.
_UNCHANGED = """
local function unchanged(first, step)
  for number = 6, #KEYS do
    local fields = redis.call('HGET', KEYS[number], 'f')
    if not fields then return 'missing' end
    if fields ~= ARGV[first + (number - 6) * step] then return 'changed' end
  end
end
"""
UPDATE_FIELDS = f"""{_WRITES}{_FRESH}{_UNCHANGED}
local refused = unchanged(3, 4)
if refused then return refused end
for number = 6, #KEYS do
  local id, _, fields, attributes = unpack(ARGV, 2 + (number - 6) * 4, 5 + (number - 6) * 4)
  redis.call('HSET', KEYS[number], 'f', fields)
  redis.call('VSETATTR', KEYS[4], id, attributes)
  if KEYS[5] ~= KEYS[4] then redis.call('VSETATTR', KEYS[5], id, attributes) end
end
return 'updated'
"""

# The same for documents that the Query Engine reads. ARGV: version, how many names of hash fields
# come next, those, then for each document: fields as they were, names and values to set as JSON.
# All of the names that are not set are removed.
UPDATE_HASHES = f"""{_WRITES}{_FRESH}{_UNCHANGED}
local first = 3 + tonumber(ARGV[2])
local refused = unchanged(first, 2)
if refused then return refused end
for number = 6, #KEYS do
  local key = KEYS[number]
  if first > 3 then redis.call('HDEL', key, unpack(ARGV, 3, first - 1)) end
  redis.call('HSET', key, unpack(cjson.decode(ARGV[first + 1 + (number - 6) * 2])))
end
return 'updated'
"""

# For documents that the Query Engine reads. ARGV: version, then for each document: id, expiry in ms
# or 0, how many arguments follow, names and values of the hash. Returns for each 1 if it is new.
UPSERT_HASHES = f"""{_WRITES}{_FRESH}
local created, at = {{}}, 2
for number = 6, #KEYS do
  local id, expiry, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local key = KEYS[number]
  created[number - 5] = 1 - redis.call('EXISTS', key)
  redis.call('DEL', key)
  redis.call('HSET', key, unpack(ARGV, at + 3, at + 2 + count))
  redis.call('ZADD', KEYS[2], 0, id)
  if expiry ~= '0' then
    redis.call('PEXPIREAT', key, expiry)
    redis.call('ZADD', KEYS[3], expiry, id)
  else
    redis.call('ZREM', KEYS[3], id)
  end
  at = at + 3 + count
end
return created
"""

# ARGV: version, hash field, then for each document: id, vector in the form of the new index.
COPY_HASHES = f"""{_WRITES}{_FRESH}
for number = 6, #KEYS do
  local key = KEYS[number]
  if redis.call('EXISTS', key) == 1 and redis.call('HEXISTS', key, ARGV[2]) == 0 then
    redis.call('HSET', key, ARGV[2], ARGV[3 + 2 * (number - 6) + 1])
  end
end
return 'copied'
"""

# Keys: 1 ids, 2 scratch. ARGV: beginning of the keys of stems, count, then the stems. Returns ids
# and scores, best first. A stem that n of N documents have is worth
# log(1 + (N - n + 1/2) / (n + 1/2)).
LEXICAL = f"""{_FREES}
local total, words = redis.call('ZCARD', KEYS[1]), {{'ZUNIONSTORE', KEYS[2], #ARGV - 2}}
for at = 3, #ARGV do words[at + 1] = ARGV[1] .. ARGV[at] end
words[#words + 1] = 'WEIGHTS'
for at = 3, #ARGV do
  local having = redis.call('ZCARD', ARGV[1] .. ARGV[at])
  words[#words + 1] = string.format('%.17g', math.log(1 + (total - having + 0.5) / (having + 0.5)))
end
redis.call(unpack(words))
local found = redis.call('ZREVRANGE', KEYS[2], 0, ARGV[2] - 1, 'WITHSCORES')
redis.call('UNLINK', KEYS[2])
return found
"""

# Keys: 1 record. ARGV: version expected ('' for none), next version, record.
REPLACE_RECORD = f"""{_WRITES}
if (redis.call('HGET', KEYS[1], 'version') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'record', ARGV[3])
return 1
"""

# Keys: 1 record. ARGV: collection. An alias is a record without a collection of its own, so that no
# collection can be created in its place. Returns what it called before, or false for a collection.
ASSIGN_ALIAS = f"""{_WRITES}
if redis.call('HEXISTS', KEYS[1], 'record') == 1 then return false end
local previous = redis.call('HGET', KEYS[1], 'alias') or ''
redis.call('HSET', KEYS[1], 'version', 'alias', 'alias', ARGV[1])
return previous
"""

# Keys: 1 record. ARGV: collection that it must call, or nothing. Returns what it called, or false.
DELETE_ALIAS = f"""{_FREES}
local previous = redis.call('HGET', KEYS[1], 'alias')
if previous and (ARGV[1] == '' or ARGV[1] == previous) then redis.call('DEL', KEYS[1]) end
return previous
"""

# Keys: 1 record. ARGV: version expected.
DELETE_RECORD = f"""{_FREES}{_FRESH}
return redis.call('DEL', KEYS[1])
"""
