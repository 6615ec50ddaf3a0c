-- KEYS: record, answer, request, staged answer.
-- ARGV: offset, operation, expected fence or nothing, 'applied' or 'not', released life in ms, then as in
-- answer_from.

local done = ARGV[4] == 'applied'
local answer = done and answer_from(6) or { kind = 'none' }
local r = find()
if not r then
  unstage(answer)
  return { 'absent' }
end
if r.has_op == 'o' and r.op == ARGV[2] then
  unstage(answer)
  return { 'applied', now, r.raw }
end
local expected = ARGV[3] == '' or r.fence == tonumber(ARGV[3])
if not expected or not (r.state == 'U' or lapsed(r)) then
  unstage(answer)
  return { 'refused', now, r.raw }
end
if not staged(answer) then return { 'unstaged' } end
r.fence, r.has_op, r.op = next_fence(r.fence), 'o', ARGV[2]
if done then
  write_completion(r, answer)
else
  write_release(r, tonumber(ARGV[5]), false)
  wake()
end
return { 'applied', now, r.raw }
