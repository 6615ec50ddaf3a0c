-- The record and the time: every step begins with this file.
--
-- KEYS[1] is the record. ARGV[1] is what a test adds to the server's clock, in milliseconds, else 0. Numbers pass
-- through Lua's doubles, so each stays below 2^53: instants in milliseconds, and fences in microseconds until the year
-- 2255.

local offset = tonumber(ARGV[1])
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2] + offset * 1000
local now = math.floor(micros / 1000)
local raw = redis.call('GET', KEYS[1])

local HEAD = 199
local DAY = 86400000
