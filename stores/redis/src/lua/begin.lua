-- KEYS: record, answer, request.
-- ARGV: offset, the record as it would be new, lease in ms, request or nothing, minted or nothing, quota of records
-- or nothing, of bytes or nothing, whether replicas are waited for, the largest body that is handed out here.

local new = ARGV[2]
local lease = tonumber(ARGV[3])
local request, minted, records, bytes, wait = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]

local function keep_request()
  if request ~= '' then redis.call('SET', KEYS[3], request) end
end

local function fresh(last, over)
  if records ~= '' or bytes ~= '' then
    if over_quota(load(new), records, bytes) then return { 'quota' } end
  end
  if minted ~= '' then
    local life = struct.unpack('>I8', new, 94)
    if now - tonumber(minted) > life then return { 'expired' } end
  end
  local fence = next_fence(last)
  -- Spliced, since this is the step that every new key pays for.
  local raw = new:sub(1, 13) .. struct.pack('>I8', fence) .. new:sub(22, 53)
    .. struct.pack('>I8I8I8', now, now, now + lease) .. new:sub(78)
  redis.call('SET', KEYS[1], raw)
  if over then
    if over.answer == 'k' then redis.call('UNLINK', KEYS[2]) end
    uncount(over)
  end
  keep_request()
  if new:sub(7, 7) == 'q' then count(load(raw)) end
  return { 'new', fence }
end

local function retake(r, ask)
  if r.state == 'R' then
    if r.counted == 'q' and (r.has_principal ~= ask.has_principal or r.principal ~= ask.principal) then
      uncount(r)
    end
    r.has_principal, r.principal, r.recovery = ask.has_principal, ask.principal, ask.recovery
  end
  if r.bound == 'f' then
    r.bound, r.attempt, r.created, r.fingerprint = 'b', 0, now, ask.fingerprint
    r.settings, r.progress, r.rest = ask.settings, 0, ask.rest
  end
  r.state, r.attempt, r.fence, r.claim = 'I', r.attempt + 1, next_fence(r.fence), ask.claim
  r.changed, r.lease, r.expires = now, now + lease, 0
  r.life, r.released_life = ask.life, ask.released_life
  r.has_request = ask.has_request
  save(r)
  keep_request()
  count(r)
  return { 'taken', now, r.raw }
end

local r, last, over = find()
if not r then return fresh(last, over) end

local ask = load(new)
if r.bound == 'f' then
  if r.claim == ask.claim then return { 'stale' } end
  return retake(r, ask)
end
local same = r.state == 'R' or (r.has_principal == ask.has_principal and r.principal == ask.principal)
if r.fingerprint ~= ask.fingerprint or not same then
  return { 'differs', now, r.raw, same and 1 or 0 }
end
if r.state == 'C' then
  local blob = false
  if r.answer == 'k' and r.body_bytes <= tonumber(ARGV[9]) then blob = redis.call('GET', KEYS[2]) end
  return { 'settled', now, r.raw, blob }
end
if lapsed(r) then
  r.state, r.changed = 'U', r.lease
  r.raw = pack(r)
  -- It is unknown whether or not it is written: no room for it changes nothing.
  redis.pcall('SET', KEYS[1], r.raw)
end
if r.state == 'U' then return { 'unknown', now, r.raw } end
if r.state == 'R' then
  if r.claim == ask.claim then return { 'stale' } end
  return retake(r, ask)
end
if r.lease <= now then return retake(r, ask) end
if r.claim == ask.claim then
  repeated(r, wait)
  return { 'taken', now, r.raw }
end
return { 'held', r.lease - now }
