-- The record and the time: every step but a claim and a completion begins with this file.
--
-- KEYS[1] is the record. ARGV[1] is what a test adds to the server's clock, in milliseconds, or nothing. Numbers pass
-- through Lua's doubles, so each stays below 2^53: instants in milliseconds, and fences in microseconds until the year
-- 2255. Arguments at the end that would be empty are left out.

local offset = tonumber(ARGV[1]) or 0
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2] + offset * 1000
local now = math.floor(micros / 1000)
local raw = redis.call('GET', KEYS[1])
