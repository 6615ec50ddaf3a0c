-- What one principal keeps, for records that were claimed under a quota. On another slot than the record, so quotas
-- are for single nodes.

local function owner(r)
  local members = KEYS[1]:sub(1, -67) .. 'p:'
  if r.principal then members = members .. r.principal end
  return { members = members, bytes = members .. ':b', bodies = members .. ':u' }
end

-- An index lives as long as its longest-lived member.
local function index_life(of)
  local last = redis.call('ZRANGE', of.members, -1, -1, 'WITHSCORES')[2]
  local at = last and last ~= 'inf' and string.format('%.0f', last - offset + 1000)
  for _, key in pairs(of) do
    if not last then
      redis.call('UNLINK', key)
    elseif at then
      redis.call('PEXPIREAT', key, at)
    else
      redis.call('PERSIST', key)
    end
  end
end

-- Takes a member's body out of the sum.
local function forget_body(of, member)
  redis.call('ZREM', of.bodies, member)
  local kept = redis.call('HGET', of.bytes, member)
  if not kept then return end
  redis.call('HDEL', of.bytes, member)
  -- In Lua the negative of 0 is -0, which Redis takes for no integer.
  if tonumber(kept) > 0 then redis.call('HINCRBY', of.bytes, 'total', '-' .. kept) end
end

local function forget(of, member)
  redis.call('ZREM', of.members, member)
  forget_body(of, member)
end

local function count(r)
  if r.counted ~= 'q' then return end
  local of = owner(r)
  redis.call('ZADD', of.members, r.expires > 0 and string.format('%.0f', r.expires) or 'inf', KEYS[1])
  forget_body(of, KEYS[1])
  if r.body_bytes > 0 then
    local bytes = string.format('%.0f', r.body_bytes)
    redis.call('HSET', of.bytes, KEYS[1], bytes)
    redis.call('HINCRBY', of.bytes, 'total', bytes)
    if r.body_until > 0 then redis.call('ZADD', of.bodies, string.format('%.0f', r.body_until), KEYS[1]) end
  end
  index_life(of)
end

local function uncount(r)
  if r.counted ~= 'q' then return end
  local of = owner(r)
  forget(of, KEYS[1])
  index_life(of)
end

local function over_quota(r, records, most_bytes)
  local of, till = owner(r), string.format('%.0f', now)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', of.members, '-inf', till)) do forget(of, member) end
  -- A body whose life is over does not count, whether or not a sweep came by.
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', of.bodies, '-inf', till)) do forget_body(of, member) end
  if records and redis.call('ZCARD', of.members) >= records then return true end
  return most_bytes ~= nil and tonumber(redis.call('HGET', of.bytes, 'total') or 0) >= most_bytes
end
