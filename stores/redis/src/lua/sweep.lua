-- One record. KEYS: record, in a cluster also what is beside it.
-- ARGV: offset; where a body is to be dropped, also the seal that its answer had and the answer without its body, or
-- only the seal of one that does not decode.

local r, _, over = find()
if over then
  entomb(over)
  return { 'removed' }
end
if not r then return { 'nothing' } end
if lapsed(r) then
  r.state, r.changed = 'U', r.lease
  save(r)
  wake()
  return { 'unknown' }
end
if r.state == 'I' and r.recovery == 't' and r.lease + r.life <= now then
  write_release(r, r.released_life, false)
  wake()
  return { 'released' }
end
if r.state == 'C' and r.body_until > 0 and r.body_until <= now then
  if not ARGV[2] then
    return { 'body', now, r.raw }
  end
  if r.blob:sub(1, 8) ~= ARGV[2] then return { 'nothing' } end
  -- What does not decode stays as it is until the record's life is over, and is not looked at again.
  r.body_until = 0
  if ARGV[3] then
    if r.answer == 'k' then redis.call('UNLINK', aside) end
    r.answer, r.body_bytes, r.blob = 'i', 0, ARGV[3]
  end
  save(r)
  count(r)
  return { 'bodies' }
end
return { 'nothing' }
