-- The ends of a run.

-- The end of a settings-and-progress tail that keeps the settings only.
local function drop_tail(r)
  r.rest = r.rest:sub(1, r.settings)
  r.progress = 0
end

local function drop_request(r)
  if r.has_request == 'r' then redis.call('UNLINK', KEYS[3]) end
  r.has_request = '-'
end

-- Whether the answer that this step brought is there: it was written beside the record just before.
local function staged(answer)
  return answer.kind ~= 'k' or redis.call('EXISTS', KEYS[4]) == 1
end

local function unstage(answer)
  if answer.kind == 'k' then redis.call('UNLINK', KEYS[4]) end
end

-- The one transition into completed.
local function write_completion(r, answer)
  r.state, r.lease, r.changed = 'C', 0, now
  r.expires = now + answer.life
  r.body_until = answer.body_life and now + answer.body_life or 0
  r.status, r.body_bytes, r.answer, r.seal = answer.status, answer.body_bytes, answer.kind, answer.seal
  drop_tail(r)
  if answer.kind == 'i' then
    r.rest = r.rest .. answer.blob
  else
    redis.call('RENAME', KEYS[4], KEYS[2])
    redis.call('PEXPIREAT', KEYS[2], keep_until(r))
  end
  drop_request(r)
  save(r)
  count(r)
  wake()
end

local function write_release(r, life, forgotten)
  r.state, r.lease, r.changed, r.expires = 'R', 0, now, now + life
  if forgotten then
    r.bound = 'f'
    drop_tail(r)
  end
  drop_request(r)
  save(r)
  count(r)
end

-- From ARGV[n] on: kind, status, body's bytes, blob or the seal of the one beside, body's life or nothing, record's
-- life.
local function answer_from(n)
  local kind = ARGV[n]
  return {
    kind = kind,
    status = tonumber(ARGV[n + 1]),
    body_bytes = tonumber(ARGV[n + 2]),
    blob = kind == 'i' and ARGV[n + 3] or nil,
    seal = ARGV[n + 3]:sub(1, 8),
    body_life = tonumber(ARGV[n + 4]),
    life = tonumber(ARGV[n + 5]),
  }
end

-- Removes a record but for its last fence.
local function entomb(r)
  local till = tonumber(keep_until(r))
  if r.answer == 'k' then redis.call('UNLINK', KEYS[2]) end
  drop_request(r)
  redis.call('SET', KEYS[1], struct.pack('>Bc1I8', 1, 'T', r.fence), 'PXAT', string.format('%.0f', till))
  uncount(r)
end
