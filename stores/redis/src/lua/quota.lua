-- What one principal keeps, for records that were claimed under a quota. On another slot than the record, so quotas
-- are for single nodes.

local function owner(r)
  local base = KEYS[1]:sub(1, -67) .. 'p:'
  if r.has_principal == 'p' then base = base .. r.principal end
  return base, base .. ':b'
end

-- An index lives as long as its longest-lived member.
local function index_life(members, bytes)
  local last = redis.call('ZRANGE', members, -1, -1, 'WITHSCORES')[2]
  if not last then
    redis.call('UNLINK', bytes)
  elseif last == 'inf' then
    redis.call('PERSIST', members)
    redis.call('PERSIST', bytes)
  else
    local at = string.format('%.0f', last - offset + 1000)
    redis.call('PEXPIREAT', members, at)
    redis.call('PEXPIREAT', bytes, at)
  end
end

local function forget(members, bytes, member)
  local kept = redis.call('HGET', bytes, member)
  redis.call('ZREM', members, member)
  if not kept then return end
  redis.call('HDEL', bytes, member)
  -- In Lua the negative of 0 is -0, which Redis takes for no integer.
  if tonumber(kept) > 0 then redis.call('HINCRBY', bytes, 'total', '-' .. kept) end
end

local function count(r)
  if r.counted ~= 'q' then return end
  local members, bytes = owner(r)
  redis.call('ZADD', members, r.expires > 0 and string.format('%.0f', r.expires) or 'inf', KEYS[1])
  local before = tonumber(redis.call('HGET', bytes, KEYS[1]) or 0)
  if r.body_bytes ~= before then
    redis.call('HSET', bytes, KEYS[1], string.format('%.0f', r.body_bytes))
    redis.call('HINCRBY', bytes, 'total', string.format('%.0f', r.body_bytes - before))
  end
  index_life(members, bytes)
end

local function uncount(r)
  if r.counted ~= 'q' then return end
  local members, bytes = owner(r)
  forget(members, bytes, KEYS[1])
  index_life(members, bytes)
end

local function over_quota(r, records, most_bytes)
  local members, bytes = owner(r)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', members, '-inf', string.format('%.0f', now))) do
    forget(members, bytes, member)
  end
  if records ~= '' and redis.call('ZCARD', members) >= tonumber(records) then return true end
  return most_bytes ~= '' and tonumber(redis.call('HGET', bytes, 'total') or 0) >= tonumber(most_bytes)
end
