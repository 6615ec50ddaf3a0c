-- A claim of a new key, before anything else is set up: the step that each first request pays for. What it cannot judge
-- goes on to begin.lua, which knows all cases. A quota without limits is one as well: it counts against later ones.

if not raw and ARGV[4] == '' and ARGV[5] == '' and ARGV[2]:byte(7) == 45 then
  local new = ARGV[2]
  redis.call('SET', KEYS[1], new:sub(1, 13) .. struct.pack('>I8', micros) .. new:sub(22, 53)
    .. struct.pack('>I8I8I8', now, now, now + ARGV[3]) .. new:sub(78))
  return { 'new', micros }
end
