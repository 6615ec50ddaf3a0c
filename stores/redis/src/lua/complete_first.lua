-- The completion of a run that is in flight, before anything else is set up. What it cannot judge goes on to
-- complete.lua, which knows all cases. Not for records that count against a quota or keep their request.

if raw and #raw >= HEAD and raw:sub(1, 2) == '\1I' and raw:byte(7) == 45 and raw:byte(9) == 45 then
  local fence = struct.unpack('>I8', raw, 14)
  local changed, life = struct.unpack('>I8', raw, 62), struct.unpack('>I8', raw, 94)
  local settings = struct.unpack('>I4', raw, 192)
  if fence == tonumber(ARGV[2]) and changed <= now and #raw >= HEAD + settings then
    local kind, blob = ARGV[4], ARGV[7]
    local expires = now + ARGV[9]
    local body_until = ARGV[8] ~= '' and now + ARGV[8] or 0
    local remembered = math.max(now, math.ceil(fence / 1000)) + math.max(life, DAY)
    local till = string.format('%.0f', math.max(expires, remembered) - offset)
    if kind == 'k' then
      local renamed = redis.pcall('RENAME', KEYS[4], KEYS[2])
      if renamed.err then
        if renamed.err:find('no such key', 1, true) then return { 'unstaged' } end
        return renamed
      end
      redis.call('PEXPIREAT', KEYS[2], till)
    end
    redis.call('SET', KEYS[1], '\1C' .. raw:sub(3, 7) .. kind .. raw:sub(9, 61)
      .. struct.pack('>I8I8I8I8', now, 0, expires, body_until) .. raw:sub(94, 109)
      .. struct.pack('>I2I8', ARGV[5], ARGV[6]) .. blob:sub(1, 8) .. raw:sub(128, 195) .. '\0\0\0\0'
      .. raw:sub(HEAD + 1, HEAD + settings) .. (kind == 'i' and blob or ''), 'PXAT', till)
    redis.pcall('PUBLISH', KEYS[1], '')
    return { 'applied' }
  end
end
