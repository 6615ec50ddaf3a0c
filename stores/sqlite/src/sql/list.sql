SELECT n, id, state, recovery, attempt, fence, claim, op, fingerprint, settings, principal, created, changed, lease_until, expires, body_until, due, life, released_life, status, body_bytes, progress
FROM record WHERE id > ?1 ORDER BY id LIMIT ?2
