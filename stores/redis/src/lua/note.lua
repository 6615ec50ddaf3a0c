-- KEYS: record. ARGV: offset, fence, progress or nothing, which is progress of no bytes.

local r = find()
if not r then return { 'absent' } end
if r.fence ~= tonumber(ARGV[2]) or r.state ~= 'I' or lapsed(r) then
  return { 'superseded', now, r.raw }
end
r.progress = ARGV[3] or ''
save(r)
return 1
