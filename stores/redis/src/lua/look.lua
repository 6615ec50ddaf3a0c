-- KEYS: record, in a cluster also what is beside it.
-- ARGV: offset, the largest body that is handed out here, or nothing for no answer.

local r = find()
if not r then return { 'absent' } end
local blob, most = false, tonumber(ARGV[2])
if most and r.answer == 'k' and r.body_bytes <= most then
  blob = redis.call('GET', aside)
end
return { 'found', now, r.raw, blob }
