-- Whether every command that the steps need may be used, on a key of its own. KEYS: probe, other.

redis.call('TIME')
redis.call('SET', KEYS[1], '1', 'PX', 60000)
redis.call('GET', KEYS[1])
redis.call('EXISTS', KEYS[1])
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('PEXPIRE', KEYS[2], '60000')
redis.call('PEXPIREAT', KEYS[2], '9000000000000')
redis.call('UNLINK', KEYS[2])
return { 'ok' }
