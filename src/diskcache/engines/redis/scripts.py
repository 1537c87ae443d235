"""The Lua scripts: each is one atomic operation on one shard, as `keyspace` lays it out.

Whatever decides is declared in KEYS, so that a script runs where all of it is, also while a slot
moves: the server answers TRYAGAIN or ASK otherwise. A script that meets an entry with a tag that
was not declared returns `{'tag', IDENT, TAG}`, before it has changed anything, and is sent again
with the keys of that tag. Numbers of 64 bits pass as text or as bytes, never as numbers of Lua,
which are doubles.

KEYS of all scripts but those on leases: 1 `:v`, 2 `:l`, 3 `:o`, 4 `:k`, 5 `:x`, then those that a
script names.
ARGV of all but the short ones: 1 the token of this transaction, '' outside of any, '*' for what
only reads; 2 now; 3 random bytes for versions (16 for the shard, then 8 for a tag); 4 how much to
tidy in passing: expired entries to remove, and idents to look at that the server may have
evicted, as `10:2`; 5 the number of tags, then the tags; their keys are the last ones in KEYS,
version before set. What follows is a script's own. `{'busy'}` is the answer while a transaction
of others holds the shard, `{'lost'}` if that of the caller does not hold it any more.

Work is bounded by what the caller sends: so many entries, and a few to tidy.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

PRELUDE: Final = """
local V, L, O, K, X = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local prefix = string.sub(V, 1, -2)
local NOTAG = string.rep('\\0', 8)
local now = tonumber(ARGV[2])
local call = redis.call
if ARGV[1] ~= '*' then
  local held = call('GET', L)
  if (held or '') ~= ARGV[1] then return {ARGV[1] == '' and 'busy' or 'lost'} end
end
local tagcount = tonumber(ARGV[5])
local base = 5 + tagcount
local first = #KEYS - 2 * tagcount
local tagkeys = {}
for i = 1, tagcount do
  tagkeys[ARGV[5 + i]] = {KEYS[first + 2 * i - 1], KEYS[first + 2 * i]}
end
local versions = call('GET', V)
if versions and #versions ~= 16 then versions = false end
local tagversions = {}

local function version_of(tag)
  if tagversions[tag] == nil then
    local found = call('GET', tagkeys[tag][1])
    tagversions[tag] = found and #found == 8 and found
  end
  return tagversions[tag]
end

local function look(key)
  local head = call('GETRANGE', key, 0, 299)
  if #head < 46 or string.sub(head, 1, 1) ~= '1' then return nil end
  local length = struct.unpack('>I4', string.sub(head, 43, 46))
  if length > 254 then head = call('GETRANGE', key, 0, 45 + length) end
  return {
    version = string.sub(head, 11, 18), expires = struct.unpack('>d', string.sub(head, 19, 26)),
    shard = string.sub(head, 27, 34), tagversion = string.sub(head, 35, 42),
    tag = string.sub(head, 47, 46 + length), kind = string.sub(head, 2, 2),
    mode = string.byte(head, 10), start = 46 + length,
    grace = string.byte(head, 10) >= 128 and struct.unpack('>I4', string.sub(head, 6, 9)) or 0,
  }
end

local function undeclared(entry)
  return entry and entry.tag ~= '' and not tagkeys[entry.tag]
end

local function is_current(entry)
  if not versions or entry.shard ~= string.sub(versions, 1, 8) then return false end
  if entry.tagversion == NOTAG then return true end
  if entry.tag == '' then return entry.tagversion == string.sub(versions, 9, 16) end
  return entry.tagversion == version_of(entry.tag)
end

local function is_live(entry)
  return entry and is_current(entry) and not (entry.expires <= now)
end

local function leave(tag, ident)
  local set = tagkeys[tag][2]
  if call('ZREM', set, ident) == 1 and call('EXISTS', set) == 0 then
    -- Nothing has the tag any more, as far as is known. What has is a miss: never stale.
    call('DEL', tagkeys[tag][1])
    tagversions[tag] = nil
  end
end

local function forget(ident, key, entry)
  call('DEL', key)
  call('ZREM', O, ident)
  call('ZREM', K, ident)
  call('ZREM', X, ident)
  if entry and entry.tag ~= '' then leave(entry.tag, ident) end
end

-- What is known of a tag is there as long as an entry with it, and as long again, so that it need
-- not be prolonged with each of them. LEFT is what PTTL says.
local function outlive(key, left, life)
  if life == '' then
    if left >= 0 then call('PERSIST', key) end
  elseif left == -2 or (left >= 0 and left < tonumber(life)) then
    call('PEXPIRE', key, string.format('%.0f', 2 * life + 60000))
  end
end

local moment
local function next_score()
  if not moment then
    local t = call('TIME')
    moment = t[1] * 1000000 + t[2]
    local last = call('ZREVRANGE', O, 0, 0, 'WITHSCORES')
    if last[2] and tonumber(last[2]) >= moment then moment = tonumber(last[2]) + 1 end
  else
    moment = moment + 1
  end
  return string.format('%.0f', moment)
end

local function put(ident, key, old, head, tag, guard, tail, life, removable)
  if not versions then
    versions = string.sub(ARGV[3], 1, 16)
    call('SET', V, versions)
  end
  local score
  if not call('ZSCORE', O, ident) then
    score = next_score()
    call('ZADD', O, score, ident)
  end
  local tagversion = NOTAG
  if guard ~= '1' then
    if tag == '' then
      tagversion = string.sub(versions, 9, 16)
    else
      local known, set = tagkeys[tag][1], tagkeys[tag][2]
      tagversion = version_of(tag)
      local left = tagversion and call('PTTL', known) or -2
      if not tagversion then
        tagversion = string.sub(ARGV[3], 17, 24)
        call('SET', known, tagversion)
        tagversions[tag] = tagversion
      end
      outlive(known, left, life)
      left = call('PTTL', set)
      call('ZADD', set, score or next_score(), ident)
      outlive(set, left, life)
      -- Of entries that expired nobody knows the tag. Two looks for each write keep the set within
      -- about twice of what it should be.
      for _ = 1, 2 do
        local some = call('ZRANDMEMBER', set)
        if not call('ZSCORE', O, some) then call('ZREM', set, some) end
      end
    end
  end
  if old and old.tag ~= '' and old.tag ~= tag then leave(old.tag, ident) end
  local data = head .. string.sub(versions, 1, 8) .. tagversion .. struct.pack('>I4', #tag)
    .. tag .. tail
  call('ZADD', K, 0, ident)
  if life == '' then
    call('ZREM', X, ident)
    call('SET', key, data)
  else
    call('ZADD', X, removable, ident)
    call('SET', key, data, 'PX', life)
  end
end

local function tidy()
  local most, looks = string.match(ARGV[4], '(%d+):(%d+)')
  if most ~= '0' then
    local gone = call('ZRANGEBYSCORE', X, '-inf', '(' .. ARGV[2], 'LIMIT', 0, most)
    for _, ident in ipairs(gone) do forget(ident, prefix .. 'e:' .. ident) end
  end
  -- The server may evict one of the two lists: what is only in the other is found there.
  for i = 1, tonumber(looks) do
    local some = call('ZRANDMEMBER', i % 2 == 0 and O or K)
    if some and call('EXISTS', prefix .. 'e:' .. some) == 0 then
      forget(some, prefix .. 'e:' .. some)
    end
  end
end
"""


# What the short scripts for one entry begin with: its ident is the end of its key.
BEGINNING: Final = r"""
local call, sub = redis.call, string.sub
local NEVER = '\127\248\0\0\0\0\0\0'
local key = KEYS[6]
local ident = sub(key, #KEYS[1] + 2)
"""


class Script(NamedTuple):
    """A script and the name by which the server knows it."""

    text: str
    digest: str


def _script(body: str) -> Script:
    return _bare(PRELUDE + body)


def _short(body: str) -> Script:
    return _bare(BEGINNING + body)


def _bare(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


APPLY: Final = _script("""
-- Changes of many entries, all or none of them. KEYS 6 and on: one for each change. ARGV: eight for
-- each change: what, ident, condition, head, tag, tail, life in ms or '', removable from.
-- What: p put, P put a guard; d delete a live entry, or without counting it one in grace; x remove
-- one that is not alive, of any kind; s the same, unless it is in grace.
-- Condition: '' none, '-' no live entry, else the version that the live entry must have.
local count = first - 5
local entries = {}
for i = 1, count do
  local entry = look(KEYS[5 + i])
  if undeclared(entry) then return {'tag', ARGV[base + 8 * i - 6], entry.tag} end
  entries[i] = entry
end
local results = {}
local seen = {}
for i = 1, count do
  local at = base + 8 * (i - 1)
  local what, ident, condition = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local key, entry = KEYS[5 + i], entries[i]
  if seen[key] then
    entry = look(key)
  end
  seen[key] = true
  local live = is_live(entry)
  local fits = condition == '' or (condition == '-' and not live)
    or (live and entry.version == condition)
  local result = 0
  if what == 's' and not live and entry and is_current(entry)
    and entry.expires <= now and now < entry.expires + entry.grace then
    result = 0
  elseif what == 'x' or what == 's' then
    local tag = ARGV[at + 5]
    if tag ~= '' and (not entry or entry.tag ~= tag) then leave(tag, ident) end
    if not live then
      if entry or call('ZSCORE', O, ident) then result = 1 end
      forget(ident, key, entry)
    end
  elseif what == 'd' then
    if live and fits then
      forget(ident, key, entry)
      result = 1
    elseif entry and not live and condition == '' and entry.grace > 0 then
      forget(ident, key, entry)
    end
  elseif fits then
    local guard = what == 'P' and '1' or ''
    put(ident, key, entry, ARGV[at + 4], ARGV[at + 5], guard, ARGV[at + 6], ARGV[at + 7],
      ARGV[at + 8])
    result = 1
  end
  results[i] = result
end
tidy()
return results
""")

TOUCH: Final = _script("""
-- Another expiry of a live entry. KEYS 6: the entry. ARGV: ident, new version and expire_time as
-- they stand in an entry, life in ms or '', removable from; both without the entry's grace.
local key, ident = KEYS[6], ARGV[base + 1]
local entry = look(key)
if undeclared(entry) then return {'tag', ident, entry.tag} end
if not is_live(entry) then return 0 end
call('SETRANGE', key, 10, ARGV[base + 2])
local life = ARGV[base + 3]
if life ~= '' then life = string.format('%.0f', tonumber(life) + entry.grace * 1000) end
if entry.tag ~= '' then
  for _, known in ipairs(tagkeys[entry.tag]) do outlive(known, call('PTTL', known), life) end
end
if life == '' then
  call('PERSIST', key)
  call('ZREM', X, ident)
else
  call('PEXPIRE', key, life)
  call('ZADD', X, string.format('%.17g', tonumber(ARGV[base + 4]) + entry.grace), ident)
end
return 1
""")

HOLD: Final = _script("""
-- Another mode of an entry, alive or not. KEYS 6: the entry. ARGV: ident, the version that it must
-- have, the mode.
local entry = look(KEYS[6])
if entry and entry.version == ARGV[base + 2] then
  call('SETRANGE', KEYS[6], 2, ARGV[base + 3])
  return 1
end
return 0
""")

ADD: Final = _script("""
-- Addition to a 64-bit integer. KEYS 6: the entry, 7: scratch. ARGV: ident, delta, new version.
-- Returns {'sum', digits}, {'over'}, or {'other'} for what is no such number, or not alive.
local key = KEYS[6]
local entry = look(key)
if undeclared(entry) then return {'tag', ARGV[base + 1], entry.tag} end
if not is_live(entry) or entry.kind ~= 'i' or entry.mode % 128 ~= 1 then return {'other'} end
call('SET', KEYS[7], call('GETRANGE', key, entry.start, -1))
local sum = redis.pcall('INCRBY', KEYS[7], ARGV[base + 2])
local digits = call('GET', KEYS[7])
call('DEL', KEYS[7])
if type(sum) == 'table' then return {string.find(sum.err, 'overflow') and 'over' or 'other'} end
local data = call('GETRANGE', key, 0, entry.start - 1)
data = string.sub(data, 1, 10) .. ARGV[base + 3] .. string.sub(data, 19) .. digits
call('SET', key, data, 'KEEPTTL')
return {'sum', digits}
""")

PUSH: Final = _script("""
-- An entry beyond an end of a queue. ARGV: start of its idents, lowest and highest ident (both not
-- part of it), last number, side, ident that is expected or '', what, head, tag, tail, life,
-- removable from. Returns {'key', ident}; {'again', ident} if another one was expected; {'bad',
-- ident}; {'full'}.
local start, low, high = ARGV[base + 1], ARGV[base + 2], ARGV[base + 3]
local most, back, expected = tonumber(ARGV[base + 4]), ARGV[base + 5] == 'back', ARGV[base + 6]
local found
if back then
  found = call('ZREVRANGEBYLEX', K, '(' .. high, '(' .. low, 'LIMIT', 0, 1)[1]
else
  found = call('ZRANGEBYLEX', K, '(' .. low, '(' .. high, 'LIMIT', 0, 1)[1]
end
local number = 500000000000000
if found then
  local rest = string.sub(found, #start + 1)
  if start == '1' then
    local bytes = string.gsub(string.sub(rest, 1, 16), '%x%x', function(pair)
      return string.char(tonumber(pair, 16))
    end)
    bytes = string.char(string.byte(bytes) % 128) .. string.sub(bytes, 2)
    number = struct.unpack('>d', bytes)
  elseif #rest == 15 and string.match(rest, '^%d+$') then
    number = tonumber(rest)
  else
    return {'bad', found}
  end
  number = back and number + 1 or number - 1
  if number <= 0 or number >= most then return {'full'} end
end
local ident
if start == '1' then
  local bytes = struct.pack('>d', number)
  bytes = string.char(string.byte(bytes) + 128) .. string.sub(bytes, 2)
  ident = '1' .. string.gsub(bytes, '.', function(byte)
    return string.format('%02x', string.byte(byte))
  end) .. '8000'
else
  ident = start .. string.format('%015.0f', number)
end
if expected ~= '' and ident ~= expected then return {'again', ident} end
put(ident, prefix .. 'e:' .. ident, nil, ARGV[base + 8], ARGV[base + 9],
  ARGV[base + 7] == 'P' and '1' or '', ARGV[base + 10], ARGV[base + 11], ARGV[base + 12])
tidy()
return {'key', ident}
""")

RENEW: Final = _script("""
-- What was stored until now counts no more. ARGV: what. All of the shard for 'all', entries without
-- a tag for 'untagged', those of the one declared tag for 'tag'. Returns the last score of the set
-- that lists them.
-- A server that is full lets a script store something that has removed something before.
local listed = O
if ARGV[base + 1] == 'all' then
  call('DEL', V)
  call('SET', V, string.sub(ARGV[3], 1, 16))
elseif ARGV[base + 1] == 'untagged' then
  call('DEL', V)
  if versions then call('SET', V, string.sub(versions, 1, 8) .. string.sub(ARGV[3], 1, 8)) end
else
  call('DEL', KEYS[first + 1])
  listed = KEYS[first + 2]
end
return call('ZREVRANGE', listed, 0, 0, 'WITHSCORES')[2] or '-1'
""")

EDGE: Final = _script("""
-- The first members of a set up to the first that is alive, and its entry. ARGV: command, from, to,
-- how many to look at. Returns the idents, and the entry of the last of them, or nothing.
local set = ARGV[base + 1] == 'ZRANGEBYSCORE' or ARGV[base + 1] == 'ZREVRANGEBYSCORE'
local members = call(ARGV[base + 1], set and O or K, ARGV[base + 2], ARGV[base + 3], 'LIMIT', 0,
  ARGV[base + 4])
local met = {}
for i, ident in ipairs(members) do
  met[i] = ident
  local key = prefix .. 'e:' .. ident
  local entry = look(key)
  if entry and entry.tag ~= '' and not tagkeys[entry.tag] then
    tagkeys[entry.tag] = {prefix .. 'g:' .. entry.tag}
  end
  if is_live(entry) then
    return {met, call('GET', key), set and call('ZSCORE', O, ident) or ''}
  end
end
return {met}
""")

PUT: Final = _short("""
-- One entry without a tag, on no condition: what APPLY does, in half of its time.
-- KEYS 6: the entry. ARGV: the entry with zeros for the versions, how many expired entries to
-- remove, '(' and now, and of an entry that expires: life in ms, removable from. Returns 1, or 0
-- for what is up to APPLY: a shard that is held or new, and an old entry that has a tag. An entry
-- that is replaced is listed already.
local found = call('MGET', KEYS[1], KEYS[2])
local versions, life = found[1], ARGV[4]
if found[2] or not versions or #versions ~= 16 then return 0 end
local head = call('GETRANGE', key, 0, 45)
if #head == 46 and sub(head, 43) ~= '\\0\\0\\0\\0' then return 0 end
local known = sub(head, 27, 42) == versions
-- Lua would copy a large value to put them in before.
local data, large = ARGV[1], #ARGV[1] > 1024
if not large then data = sub(data, 1, 26) .. versions .. sub(data, 43) end
-- The lists come first: what is stored counts as listed from then on.
if not known then
  local t = call('TIME')
  local moment = t[1] * 1000000 + t[2]
  local last = call('ZREVRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]
  if last and tonumber(last) >= moment then moment = tonumber(last) + 1 end
  call('ZADD', KEYS[3], 'NX', string.format('%.0f', moment), ident)
  call('ZADD', KEYS[4], 0, ident)
end
if life then
  call('ZADD', KEYS[5], ARGV[5], ident)
elseif not known or sub(head, 19, 26) ~= NEVER then
  call('ZREM', KEYS[5], ident)
end
if life then call('SET', key, data, 'PX', life) else call('SET', key, data) end
if large then call('SETRANGE', key, 26, versions) end
if not known and ARGV[2] ~= '0' then
  local gone = call('ZRANGEBYSCORE', KEYS[5], '-inf', ARGV[3], 'LIMIT', 0, ARGV[2])
  for _, ident in ipairs(gone) do
    call('DEL', sub(KEYS[1], 1, -2) .. 'e:' .. ident)
    for i = 3, 5 do call('ZREM', KEYS[i], ident) end
  end
end
return 1
""")

DROP: Final = _short("""
-- Removal of one live entry without a tag, on no condition: what APPLY does, in half of its time.
-- KEYS 6: the entry. ARGV: now. Returns 1 if it was removed and 0 if none is there, or {} for what
-- is up to APPLY: a shard that is held, an old entry that has a tag, or does not count, or is kept
-- beyond its expiry.
local found = call('MGET', KEYS[1], KEYS[2])
if found[2] then return {} end
local head = call('GETRANGE', key, 0, 45)
if head == '' then return 0 end
if #head < 46 or sub(head, 27) ~= (found[1] or '') .. '\\0\\0\\0\\0' then return {} end
local never = sub(head, 19, 26) == NEVER
if not never and struct.unpack('>d', sub(head, 19, 26)) <= tonumber(ARGV[1]) then return {} end
call('DEL', key)
call('ZREM', KEYS[3], ident)
call('ZREM', KEYS[4], ident)
if not never then call('ZREM', KEYS[5], ident) end
return 1
""")

RELEASE: Final = _script("""
-- The end of a transaction that wrote nothing.
call('DEL', L)
return 1
""")

LEASE_WRITE: Final = _bare("""
-- What a computation waits for. KEYS: `:c:NAME`. ARGV: the token that it must hold, the record.
if string.sub(redis.call('GET', KEYS[1]) or '', 1, 32) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'KEEPTTL')
return 1
""")

LEASE_END: Final = _bare("""
-- The end of a computation. KEYS: `:c:NAME`, `:c:NAME:TOKEN`. ARGV: the token, a record for those
-- who waited or '', how many ms it is there.
if ARGV[2] ~= '' then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
if string.sub(redis.call('GET', KEYS[1]) or '', 1, 32) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""")

ALL: Final = (
    APPLY,
    PUT,
    DROP,
    TOUCH,
    HOLD,
    ADD,
    PUSH,
    RENEW,
    EDGE,
    RELEASE,
    LEASE_WRITE,
    LEASE_END,
)
