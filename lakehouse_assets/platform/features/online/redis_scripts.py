"""The scripts of the online store on Redis. Each is run as a whole, so what it reads or changes is of one moment.

When they are called, and with what, is in `redis_store`.
"""

from typing import Final

# Of an entity there are two keys: a sorted set of its items' fields by time, and a hash from field to "time:stamp:pushed:payload".
READ: Final = """
local prefix, answers, place = ARGV[1], {}, 3
for number = 1, tonumber(ARGV[2]) do
  local base, low, high, last = ARGV[place], ARGV[place + 1], ARGV[place + 2], ARGV[place + 3]
  place = place + 4
  local fields
  if last == '1' then
    fields = redis.call('ZREVRANGEBYSCORE', prefix .. 'z:' .. base, high, '-inf', 'LIMIT', 0, 1)
  else
    fields = redis.call('ZRANGEBYSCORE', prefix .. 'z:' .. base, low, high)
  end
  local found = {}
  for first = 1, #fields, 4000 do
    local until_ = math.min(first + 3999, #fields)
    local values = redis.call('HMGET', prefix .. 'h:' .. base, unpack(fields, first, until_))
    for index = first, until_ do
      found[#found + 1] = fields[index]
      found[#found + 1] = values[index - first + 1]
    end
  end
  answers[number] = found
end
local states = {}
for index = place, #ARGV do
  states[#states + 1] = redis.call('HGET', prefix .. 'states', ARGV[index])
end
return {answers, states}
"""

APPLY: Final = """
local prefix, name, claim, pushed = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local back, one_before, now, place = tonumber(ARGV[5]), ARGV[6], ARGV[7], 8
if redis.call('EXISTS', prefix .. 'claim:' .. name) == 0 then return 0 end
local function text(number) return string.format('%.0f', number) end
local function is_pushed(h, field) return string.match(redis.call('HGET', h, field), '^%-?%d+:%-?%d+:(%d+):') ~= '0' end
local function remove(z, h, field) redis.call('ZREM', z, field) redis.call('HDEL', h, field) end
local function remove_all(z, h, fields)
  for first = 1, #fields, 4000 do
    local until_ = math.min(first + 3999, #fields)
    redis.call('ZREM', z, unpack(fields, first, until_))
    redis.call('HDEL', h, unpack(fields, first, until_))
  end
end
local pushed_at, pushed_ids = prefix .. 'pushed:' .. name, prefix .. 'copies:' .. name
local function forget_copies(entity, field)
  local start = string.format('%08x', #field) .. field
  for _, copy in ipairs(redis.call('ZRANGEBYLEX', pushed_ids, '[' .. start, '[' .. start .. '\\255')) do
    local other = string.sub(copy, #start + 1)
    local base = name .. ':' .. other
    if other ~= entity and redis.call('HEXISTS', prefix .. 'h:' .. base, field) == 1 and is_pushed(prefix .. 'h:' .. base, field) then
      remove(prefix .. 'z:' .. base, prefix .. 'h:' .. base, field)
      if redis.call('EXISTS', prefix .. 'z:' .. base) == 0 then
        redis.call('ZREM', prefix .. 'newest:' .. name, other)
        redis.call('ZREM', prefix .. 'claims:' .. name, other)
      end
    end
    redis.call('ZREM', pushed_at, copy)
    redis.call('ZREM', pushed_ids, copy)
  end
end
while place <= #ARGV do
  local entity, replaces, count = ARGV[place], ARGV[place + 1], tonumber(ARGV[place + 2])
  place = place + 3
  local z, h = prefix .. 'z:' .. name .. ':' .. entity, prefix .. 'h:' .. name .. ':' .. entity
  if replaces == '1' then
    local items, gone = redis.call('HGETALL', h), {}
    for index = 1, #items, 2 do
      if string.match(items[index + 1], '^%-?%d+:%-?%d+:(%d+):') == '0' then gone[#gone + 1] = items[index] end
    end
    remove_all(z, h, gone)
  end
  for _ = 1, count do
    local time, field, stamp, payload = ARGV[place], ARGV[place + 1], ARGV[place + 2], ARGV[place + 3]
    place = place + 4
    local before = redis.call('HGET', h, field)
    if not before or tonumber(string.match(before, '^%-?%d+:(%-?%d+):')) <= tonumber(stamp) then
      if payload == '' then
        remove(z, h, field)
      else
        redis.call('HSET', h, field, time .. ':' .. stamp .. ':' .. pushed .. ':' .. payload)
        redis.call('ZADD', z, time, field)
        if pushed == '0' then
          forget_copies(entity, field)
        else
          local copy = string.format('%08x', #field) .. field .. entity
          redis.call('ZADD', pushed_at, pushed, copy)
          redis.call('ZADD', pushed_ids, 0, copy)
        end
      end
    end
  end
  local newest, first, some = nil, 0, 1  -- mostly the first one; what was pushed after it is passed over
  while not newest do
    local fields = redis.call('ZREVRANGEBYSCORE', z, now, '-inf', 'LIMIT', first, some)
    for _, field in ipairs(fields) do
      if pushed ~= '0' or not is_pushed(h, field) then newest = tonumber(redis.call('ZSCORE', z, field)) break end
    end
    if #fields < some then break end
    first, some = first + some, some * 4
  end
  if newest then
    local over = text(newest - back)
    if one_before == '1' then
      local stays = redis.call('ZREVRANGEBYSCORE', z, over, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
      over = stays[1] and '(' .. stays[2] or '-inf'
    end
    local gone = {}
    for _, field in ipairs(redis.call('ZRANGEBYSCORE', z, '-inf', over)) do
      if pushed == '0' or is_pushed(h, field) then gone[#gone + 1] = field end
    end
    remove_all(z, h, gone)
  end
  local last = redis.call('ZREVRANGE', z, 0, 0, 'WITHSCORES')
  if last[1] then
    redis.call('ZADD', prefix .. 'newest:' .. name, last[2], entity)
    if pushed == '0' then
      redis.call('ZADD', prefix .. 'claims:' .. name, claim, entity)
    else
      redis.call('ZADD', prefix .. 'claims:' .. name, 'NX', 0, entity)
    end
  else
    redis.call('ZREM', prefix .. 'newest:' .. name, entity)
    redis.call('ZREM', prefix .. 'claims:' .. name, entity)
  end
end
return 1
"""

# Of a lease there is a key that the server removes once it is over.
BEGIN: Final = """
if redis.call('EXISTS', ARGV[3]) == 1 then return 0 end
local claim = math.max(tonumber(redis.call('GET', ARGV[1]) or 0) + 1, tonumber(ARGV[2]))
redis.call('SET', ARGV[1], string.format('%.0f', claim))
if tonumber(ARGV[4]) > 0 then redis.call('SET', ARGV[3], '', 'PX', ARGV[4]) end
return claim
"""

# What was pushed until a time; ARGV[4] of them at most. It returns whether there are more.
FORGET: Final = """
local prefix, name, until_, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local pushed_at, pushed_ids = prefix .. 'pushed:' .. name, prefix .. 'copies:' .. name
local copies = redis.call('ZRANGEBYSCORE', pushed_at, '-inf', until_, 'LIMIT', 0, most)
for _, copy in ipairs(copies) do
  local length = tonumber(string.sub(copy, 1, 8), 16)
  local field, entity = string.sub(copy, 9, 8 + length), string.sub(copy, 9 + length)
  local z, h = prefix .. 'z:' .. name .. ':' .. entity, prefix .. 'h:' .. name .. ':' .. entity
  local item = redis.call('HGET', h, field)
  if item and string.match(item, '^%-?%d+:%-?%d+:(%d+):') ~= '0' then
    redis.call('ZREM', z, field)
    redis.call('HDEL', h, field)
    if redis.call('EXISTS', z) == 0 then
      redis.call('ZREM', prefix .. 'newest:' .. name, entity)
      redis.call('ZREM', prefix .. 'claims:' .. name, entity)
    end
  end
  redis.call('ZREM', pushed_at, copy)
  redis.call('ZREM', pushed_ids, copy)
end
return #copies == most and 1 or 0
"""

RENEW: Final = """
if redis.call('GET', ARGV[1]) ~= ARGV[2] then return 0 end
if tonumber(ARGV[4]) > 0 then redis.call('SET', ARGV[3], '', 'PX', ARGV[4]) else redis.call('DEL', ARGV[3]) end
return 1
"""

REMOVE: Final = """
local prefix, name = ARGV[1], ARGV[2]
for place = 3, #ARGV do
  redis.call('DEL', prefix .. 'z:' .. name .. ':' .. ARGV[place], prefix .. 'h:' .. name .. ':' .. ARGV[place])
  redis.call('ZREM', prefix .. 'newest:' .. name, ARGV[place])
  redis.call('ZREM', prefix .. 'claims:' .. name, ARGV[place])
end
return 1
"""
