-- KEYS: record, in a cluster also what is beside it.
-- ARGV: the record as it would be new, up to its fence, and from there on; offset; whether replicas are waited for;
-- where there is a request, an instant of minting, or a quota: 'q' for the latter, the request, minted, the quota of
-- records and of bytes, each or nothing.

local function given(n)
  return ARGV[n] ~= '' and ARGV[n] or nil
end

local request, minted, records, bytes = given(6), tonumber(given(7)), tonumber(given(8)), tonumber(given(9))

local function new(fence)
  return ARGV[1] .. struct.pack('>I8', fence) .. ARGV[2]
end

local ask = load(new(0))

local function fresh(last, over)
  if (records or bytes) and over_quota(ask, records, bytes) then return { 'quota' } end
  if minted and now - minted > ask.life then return { 'expired' } end
  local fence = next_fence(last)
  redis.call('SET', KEYS[1], new(fence))
  if over then
    if over.answer == 'k' then redis.call('UNLINK', aside) end
    uncount(over)
  end
  if request then redis.call('SET', aside, request) end
  count(ask)
  return fence
end

local function retake(r)
  if r.state == 'R' then
    if r.counted == 'q' and r.principal ~= ask.principal then uncount(r) end
    r.principal, r.recovery = ask.principal, ask.recovery
  end
  r.fence = next_fence(r.fence)
  if r.bound == 'f' then
    r.bound, r.attempt, r.created, r.fingerprint = 'b', 0, now, ask.fingerprint
    r.settings, r.progress = ask.settings, nil
  end
  r.state, r.attempt, r.claim = 'I', r.attempt + 1, ask.claim
  r.changed, r.lease, r.expires = now, now + ask.lease, 0
  r.life, r.released_life = ask.life, ask.released_life
  if request then
    redis.call('SET', aside, request)
  elseif r.has_request == 'r' then
    redis.call('UNLINK', aside)
  end
  r.has_request = ask.has_request
  save(r)
  count(r)
  return { 'taken', now, r.raw }
end

local r, last, over = find()
if not r then return fresh(last, over) end

if r.bound == 'f' then
  if r.claim == ask.claim then return { 'stale' } end
  return retake(r)
end
local same = r.state == 'R' or r.principal == ask.principal
if r.fingerprint ~= ask.fingerprint or not same then
  return { 'differs', now, r.raw, same and 1 or 0 }
end
if r.state == 'C' then
  local blob = false
  if r.answer == 'k' and r.body_bytes <= HANDED_OUT then blob = redis.call('GET', aside) end
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
  return retake(r)
end
if r.lease <= now then return retake(r) end
if r.claim == ask.claim then
  repeated(r, ARGV[4])
  return { 'taken', now, r.raw }
end
return { 'held', r.lease - now }
