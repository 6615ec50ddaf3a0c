-- KEYS: record, in a cluster also what is beside it. ARGV: offset, 'settled' or 'any'.

local r = find()
if not r then return { 'absent' } end
if ARGV[2] == 'settled' and (r.state == 'I' or r.state == 'U') then return { 'refused', now, r.raw } end
entomb(r)
wake()
return { 'gone' }
