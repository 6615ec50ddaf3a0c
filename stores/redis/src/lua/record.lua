-- A record as one string, in the layout that row.rs describes.

local LAYOUT = '>Bc1c1c1c1c1c1c1c1I4I8c16c16I8I8I8I8I8I8I8I2I8c8c32c32I4I4'
local STATES = { I = true, U = true, C = true, R = true }

local function damaged()
  error({ err = 'SEMELDATA a record is damaged, or of a newer version' })
end

local function load(raw)
  if #raw < HEAD or raw:byte(1) ~= 1 then damaged() end
  local r = {}
  r.version, r.state, r.recovery, r.bound, r.has_op, r.has_principal, r.counted, r.answer, r.has_request,
    r.attempt, r.fence, r.claim, r.op, r.created, r.changed, r.lease, r.expires, r.body_until, r.life,
    r.released_life, r.status, r.body_bytes, r.seal, r.fingerprint, r.principal, r.settings, r.progress =
    struct.unpack(LAYOUT, raw)
  -- Lengths: of the settings, of the progress plus one (0: none); what is left is the answer.
  if not STATES[r.state] or #raw < HEAD + r.settings + math.max(r.progress - 1, 0) then damaged() end
  r.rest = raw:sub(HEAD + 1)
  return r
end

local function pack(r)
  return struct.pack(LAYOUT, r.version, r.state, r.recovery, r.bound, r.has_op, r.has_principal, r.counted,
    r.answer, r.has_request, r.attempt, r.fence, r.claim, r.op, r.created, r.changed, r.lease, r.expires,
    r.body_until, r.life, r.released_life, r.status, r.body_bytes, r.seal, r.fingerprint, r.principal,
    r.settings, r.progress) .. r.rest
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
  r.raw = raw
  return r, r.fence
end

local function lapsed(r)
  return r.state == 'I' and r.recovery == 'h' and r.lease <= now
end

-- Never below one that was handed out for this record, see the crate's documentation.
local function next_fence(last)
  return math.max(last + 1, micros)
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
