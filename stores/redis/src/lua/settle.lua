-- The ends of a run. Beside the record is its request, and then its answer.

local function drop_request(r)
  if r.has_request == 'r' then redis.call('UNLINK', aside) end
  r.has_request = '-'
end

-- Whether the answer that this step brought is there: it was written beside the record just before.
local function staged(answer)
  return answer.kind ~= 'k' or redis.call('EXISTS', KEYS[3]) == 1
end

local function unstage(answer)
  if answer.kind == 'k' then redis.call('UNLINK', KEYS[3]) end
end

-- The one transition into completed.
local function write_completion(r, answer)
  drop_request(r)
  r.state, r.lease, r.changed, r.progress = 'C', 0, now, nil
  r.expires = now + answer.life
  r.body_until = answer.body_life > 0 and now + answer.body_life - 1 or 0
  r.status, r.body_bytes, r.answer, r.blob = answer.status, answer.body_bytes, answer.kind, answer.blob
  if answer.kind == 'k' then
    redis.call('RENAME', KEYS[3], aside)
    redis.call('PEXPIREAT', aside, keep_until(r))
  end
  save(r)
  count(r)
  wake()
end

local function write_release(r, life, forgotten)
  drop_request(r)
  r.state, r.lease, r.changed, r.expires = 'R', 0, now, now + life
  if forgotten then r.bound, r.progress = 'f', nil end
  save(r)
  count(r)
end

-- From ARGV[n]: what follows the instant of its completion in a completed record.
local function answer_from(n)
  local answer = {}
  answer.life, answer.body_life, answer.status, answer.body_bytes, answer.kind = struct.unpack('>I8I8I2I8c1', ARGV[n])
  answer.blob = ARGV[n]:sub(28)
  return answer
end

-- Removes a record but for its last fence.
local function entomb(r)
  local till = keep_until(r)
  if r.answer == 'k' then redis.call('UNLINK', aside) end
  drop_request(r)
  redis.call('SET', KEYS[1], struct.pack('>Bc1I8', 1, 'T', r.fence), 'PXAT', till)
  uncount(r)
end
