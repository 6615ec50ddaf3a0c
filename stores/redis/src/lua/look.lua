-- KEYS: record, answer. ARGV: offset, the largest body that is handed out here, or nothing for no answer.

local r = find()
if not r then return { 'absent' } end
local blob = false
if ARGV[2] ~= '' and r.state == 'C' and r.answer == 'k' and r.body_bytes <= tonumber(ARGV[2]) then
  blob = redis.call('GET', KEYS[2])
end
return { 'found', now, r.raw, blob }
