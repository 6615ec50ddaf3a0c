-- KEYS: record, answer, request, staged answer.
-- ARGV: offset, fence, whether replicas are waited for, then as in answer_from.

local fence = tonumber(ARGV[2])
local answer = answer_from(4)
local r = find()
if not r then
  unstage(answer)
  return { 'absent' }
end
if r.fence == fence and (r.state == 'I' or r.state == 'U') then
  if not staged(answer) then return { 'unstaged' } end
  write_completion(r, answer)
  return { 'applied' }
end
unstage(answer)
if r.fence == fence and r.state == 'C' then
  repeated(r, ARGV[3])
  return { 'applied' }
end
return { 'superseded', now, r.raw }
