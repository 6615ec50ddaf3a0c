INSERT INTO record (id, request, state, recovery, attempt, fence, claim, op, fingerprint, settings, principal, created, changed, lease_until, expires, body_until, due, life, released_life, status, body_bytes, progress)
VALUES (?21, ?22, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)
