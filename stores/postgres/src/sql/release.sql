UPDATE {schema}.record AS r SET
    state = 2,
    changed = {now},
    lease_until = NULL,
    expires = {now} + $4::bigint * interval '1 millisecond',
    due = {now} + $4::bigint * interval '1 millisecond',
    fingerprint = CASE WHEN NOT $5::boolean THEN r.fingerprint END,
    settings = CASE WHEN $5::boolean THEN '' ELSE r.settings END,
    principal = CASE WHEN NOT $5::boolean THEN r.principal END,
    progress = CASE WHEN NOT $5::boolean THEN r.progress END,
    request = NULL
WHERE r.id = $1::bytea AND (r.fence = $2::bigint OR r.claim = $3::bytea) AND r.state IN (0, 3)
RETURNING {told} {durable}
