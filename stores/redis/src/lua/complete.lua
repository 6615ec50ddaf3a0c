-- KEYS: record, and where there is a staged answer, or in a cluster: what is beside it; the staged answer.
-- ARGV: the first bytes that the record of the run has, up to its fence; the end of its completed record, as in
-- answer_from; the least time-to-live; offset; whether replicas are waited for.

local fence = struct.unpack('>I8', ARGV[1], 15)
local answer = answer_from(2)
local r = find()
if not r then
  unstage(answer)
  return { 'absent' }
end
if r.fence == fence and (r.state == 'I' or r.state == 'U') then
  if not staged(answer) then return { 'unstaged' } end
  write_completion(r, answer)
  return 1
end
unstage(answer)
if r.fence == fence and r.state == 'C' then
  repeated(r, ARGV[5])
  return 1
end
return { 'superseded', now, r.raw }
