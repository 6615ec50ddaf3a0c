-- KEYS: record. ARGV: offset, fence.

local r = find()
if not r then return { 'absent' } end
if r.fence ~= tonumber(ARGV[2]) or r.state == 'C' or r.state == 'R' then
  return { 'superseded', now, r.raw }
end
if r.state == 'I' and r.recovery == 'h' then
  r.changed = lapsed(r) and r.lease or now
  r.state = 'U'
  save(r)
  wake()
end
return 1
