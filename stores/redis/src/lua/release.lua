-- KEYS: record, in a cluster also what is beside it.
-- ARGV: offset, fence or nothing, claim or nothing, 'forgotten' or nothing, released life in ms.

local r = find()
if not r then return { 'absent' } end
local its_own
if ARGV[2] ~= '' then its_own = r.fence == tonumber(ARGV[2]) else its_own = r.claim == ARGV[3] end
if its_own and r.state == 'R' then return 1 end
if its_own and (r.state == 'I' or r.state == 'U') then
  write_release(r, tonumber(ARGV[5]), ARGV[4] == 'forgotten')
  wake()
  return 1
end
return { 'superseded', now, r.raw }
