-- KEYS: record, and where there is a staged answer, or in a cluster: what is beside it; the staged answer.
-- ARGV: offset, operation, expected fence or nothing, released life in ms, then nothing where it was not applied, else as
-- in answer_from.

local answer = ARGV[5] and answer_from(5) or { kind = 'none' }
local r = find()
if not r then
  unstage(answer)
  return { 'absent' }
end
if r.op == ARGV[2] then
  unstage(answer)
  return { 'applied', now, r.raw }
end
local expected = ARGV[3] == '' or r.fence == tonumber(ARGV[3])
if not expected or not (r.state == 'U' or lapsed(r)) then
  unstage(answer)
  return { 'refused', now, r.raw }
end
if not staged(answer) then return { 'unstaged' } end
r.fence, r.op = next_fence(r.fence), ARGV[2]
if ARGV[5] then
  write_completion(r, answer)
else
  write_release(r, tonumber(ARGV[4]), false)
  wake()
end
return { 'applied', now, r.raw }
