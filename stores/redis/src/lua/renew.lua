-- KEYS: record. ARGV: offset, fence, lease in ms.

local r = find()
if not r then return { 'absent' } end
if r.fence ~= tonumber(ARGV[2]) or r.state ~= 'I' or lapsed(r) then
  return { 'superseded', now, r.raw }
end
-- Never shortens: a renewal that was delayed must not end a lease that a later one extended.
r.lease = math.max(r.lease, now + tonumber(ARGV[3]))
save(r)
return 1
