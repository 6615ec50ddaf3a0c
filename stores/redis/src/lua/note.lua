-- KEYS: record. ARGV: offset, fence, progress.

local r = find()
if not r then return { 'absent' } end
if r.fence ~= tonumber(ARGV[2]) or r.state ~= 'I' or lapsed(r) then
  return { 'superseded', now, r.raw }
end
r.rest = r.rest:sub(1, r.settings) .. ARGV[3]
r.progress = #ARGV[3] + 1
save(r)
return { 'applied' }
