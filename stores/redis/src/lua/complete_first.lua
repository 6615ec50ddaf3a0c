-- The completion of a run that is in flight, before anything else is set up, see begin_first.lua. What it cannot judge
-- goes on to complete.lua, which knows all cases and describes KEYS and ARGV. Not for records that count against a quota,
-- keep their request or have recorded progress: their first bytes are others.

local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local offset = 0
if ARGV[4] and ARGV[4] ~= '' then
  offset = tonumber(ARGV[4])
  micros = micros + offset * 1000
end
local now = (micros - micros % 1000) / 1000
local raw = redis.call('GET', KEYS[1])

-- While the clock is not behind the fence, the record's own time is not either.
if raw and raw:find(ARGV[1], 1, true) == 1 and struct.unpack('>I8', raw, 15) <= micros then
  if KEYS[3] then
    local renamed = redis.pcall('RENAME', KEYS[3], KEYS[2])
    if renamed.err then
      if renamed.err:find('no such key', 1, true) then return { 'unstaged' } end
      return renamed
    end
    redis.call('PEXPIRE', KEYS[2], ARGV[3])
  end
  -- All but the state and the lease stays.
  redis.call('SET', KEYS[1], '\1C' .. raw:sub(3, -9) .. struct.pack('>I8', now) .. ARGV[2], 'PX', ARGV[3])
  redis.pcall('PUBLISH', KEYS[1], '')
  return 1
end
