-- A record as one string, in the layout that row.rs describes.

-- What is beside it. Only a cluster has to be told: it looks whether it has all keys before it runs the script.
local aside = KEYS[2] or KEYS[1] .. ':a'

local HEAD = 97
local LAYOUT = '>Bc1c1c1c1c1I8I8c1c1c1I4c16I8I8c32I4'
local DONE = '>I8I8I8I2I8c1'
local DAY = 86400000

local function damaged()
  error({ err = 'SEMELDATA a record is damaged, or of a newer version' })
end

-- The millisecond of a fence, before which no time of its claim is.
local function instant(fence)
  return math.floor(fence / 1000)
end

local function load(raw)
  if #raw < HEAD or raw:byte(1) ~= 1 then damaged() end
  local r = { raw = raw, lease = 0, expires = 0, body_until = 0, status = 0, body_bytes = 0, answer = '-' }
  local version, has_op, has_principal, progress, settings
  version, r.state, r.bound, r.counted, r.has_request, progress, r.life, r.fence, r.recovery, has_op, has_principal,
    r.attempt, r.claim, r.created, r.released_life, r.fingerprint, settings = struct.unpack(LAYOUT, raw)
  local at = HEAD
  local function take(bytes)
    at = at + bytes
    if #raw < at then damaged() end
    return raw:sub(at - bytes + 1, at)
  end
  r.settings = take(settings)
  if has_op == 'o' then r.op = take(16) end
  if has_principal == 'p' then r.principal = take(32) end
  local claimed = instant(r.fence)
  if r.created == 0 then r.created = claimed end
  if r.state == 'I' then
    r.changed, r.lease = claimed, claimed + struct.unpack('>I8', take(8))
  elseif r.state == 'U' then
    local changed, lease = struct.unpack('>I8I8', take(16))
    r.changed, r.lease = changed, claimed + lease
  elseif r.state == 'R' then
    local changed, life = struct.unpack('>I8I8', take(16))
    r.changed, r.expires = changed, changed + life
  elseif r.state == 'C' then
    local changed, life, body_life, status, body_bytes, answer = struct.unpack(DONE, take(35))
    r.changed, r.expires = changed, changed + life
    if body_life > 0 then r.body_until = changed + body_life - 1 end
    r.status, r.body_bytes, r.answer, r.blob = status, body_bytes, answer, raw:sub(at + 1)
  else
    damaged()
  end
  if progress == 'n' then r.progress = raw:sub(at + 1) end
  return r
end

local function pack(r)
  local raw = struct.pack(LAYOUT, 1, r.state, r.bound, r.counted, r.has_request, r.progress and 'n' or '-', r.life,
    r.fence, r.recovery, r.op and 'o' or '-', r.principal and 'p' or '-', r.attempt, r.claim, r.created,
    r.released_life, r.fingerprint, #r.settings) .. r.settings .. (r.op or '') .. (r.principal or '')
  local claimed = instant(r.fence)
  if r.state == 'I' then
    raw = raw .. struct.pack('>I8', r.lease - claimed)
  elseif r.state == 'U' then
    raw = raw .. struct.pack('>I8I8', r.changed, r.lease - claimed)
  elseif r.state == 'R' then
    raw = raw .. struct.pack('>I8I8', r.changed, r.expires - r.changed)
  else
    local body_life = r.body_until > 0 and r.body_until - r.changed + 1 or 0
    return raw .. struct.pack(DONE, r.changed, r.expires - r.changed, body_life, r.status, r.body_bytes, r.answer)
      .. r.blob
  end
  return raw .. (r.progress or '')
end

-- The record, or nil with the last fence that is remembered and what is left of one whose life is over.
local function find()
  if not raw then return nil, 0 end
  if #raw == 10 and raw:byte(1) == 1 and raw:byte(2) == 84 then
    return nil, (struct.unpack('>I8', raw, 3))
  end
  local r = load(raw)
  -- A record's own time never goes back, whatever the server's clock does.
  if r.changed > now then now = r.changed end
  if r.expires > 0 and r.expires <= now then return nil, r.fence, r end
  return r, r.fence
end

local function lapsed(r)
  return r.state == 'I' and r.recovery == 'h' and r.lease <= now
end

-- Never below one that was handed out for this record, see the crate's documentation, nor the record's own time below
-- its instant.
local function next_fence(last)
  local fence = math.max(last + 1, micros, now * 1000)
  now = math.max(now, instant(fence))
  return fence
end

-- By the server's own clock: how long the last fence is remembered.
local function keep_until(r)
  local remembered = math.max(now, math.ceil(r.fence / 1000)) + math.max(r.life, DAY)
  return string.format('%.0f', math.max(r.expires, remembered) - offset)
end

-- A live or unknown record has no time-to-live.
local function save(r)
  r.raw = pack(r)
  if r.expires == 0 then
    redis.call('SET', KEYS[1], r.raw)
  else
    redis.call('SET', KEYS[1], r.raw, 'PXAT', keep_until(r))
  end
end

-- Where replicas have to acknowledge, a repeated step writes again, so that there is something to wait for.
local function repeated(r, wait)
  if wait == '1' then redis.call('SET', KEYS[1], r.raw, 'KEEPTTL') end
end

-- A hint. Whoever may not publish has waiters that look again.
local function wake()
  redis.pcall('PUBLISH', KEYS[1], '')
end
