-- Empties it, and lets a sweep remove it a minute later: a claim that had its number before the deletion, and is
-- still on its way, must find it and take a higher one.
UPDATE {schema}.record AS r SET
    state = 2, fingerprint = NULL, settings = '', principal = NULL, op = NULL, changed = {now}, lease_until = NULL,
    expires = {now}, body_until = NULL, due = {now} + interval '1 minute', status = NULL, body_bytes = 0,
    progress = NULL, request = NULL, completion = NULL
WHERE r.id = $1::bytea AND (r.expires IS NULL OR r.expires > {now}) AND ($2::boolean OR r.state IN (1, 2))
RETURNING {told} {durable}
