-- A claim of a new key, before anything else is set up: the step that each first request pays for, in which each
-- command, argument and byte counts. What it cannot judge goes on to begin.lua, which knows all cases. KEYS and ARGV are
-- described there.

local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local offset = 0
if ARGV[3] and ARGV[3] ~= '' then
  offset = tonumber(ARGV[3])
  micros = micros + offset * 1000
end

local raw
if ARGV[5] then
  raw = redis.call('GET', KEYS[1])
else
  raw = redis.pcall('SET', KEYS[1], ARGV[1] .. struct.pack('>I8', micros) .. ARGV[2], 'NX', 'GET')
  if not raw then return micros end
  if type(raw) == 'table' then
    -- A server that takes no writes now still answers for the records that it has.
    local refused = raw
    raw = redis.call('GET', KEYS[1])
    if not raw then return refused end
  end
end
local now = math.floor(micros / 1000)
