-- The next claim of a record that is over, released, or a takeover whose lease is over. Locks first: what an
-- UPDATE sets is computed before it waits for a row that was then not changed, and lease and number must be newer.
WITH held AS MATERIALIZED (
    SELECT r.id FROM {schema}.record AS r
    WHERE r.id = $1::bytea AND (
        (r.expires <= {now} AND {room}
            AND ($11::bigint IS NULL OR extract(epoch FROM {now}) * 1000 - $11::bigint <= $8::bigint))
        OR (r.expires > {now} AND r.state = 2 AND r.claim <> $3::bytea
            AND (r.fingerprint IS NULL OR r.fingerprint = $4::bytea))
        OR (r.state = 0 AND r.recovery = 1 AND r.lease_until <= {now}
            AND r.fingerprint = $4::bytea AND r.principal IS NOT DISTINCT FROM $6::bytea))
    FOR UPDATE OF r
)
UPDATE {schema}.record AS r SET
    state = 0,
    recovery = CASE WHEN {anew} OR r.state = 2 THEN $2::smallint ELSE r.recovery END,
    attempt = CASE WHEN {anew} THEN 1 ELSE r.attempt + 1 END,
    fence = greatest(nextval('{schema}.fence'::regclass), r.fence + 1),
    claim = $3::bytea,
    op = CASE WHEN {anew} THEN NULL ELSE r.op END,
    fingerprint = $4::bytea,
    settings = CASE WHEN {anew} THEN $5::text ELSE r.settings END,
    principal = $6::bytea,
    created = CASE WHEN {anew} THEN {now} ELSE r.created END,
    changed = {now},
    lease_until = {now} + $7::bigint * interval '1 millisecond',
    expires = NULL,
    body_until = NULL,
    due = {now} + ($7::bigint + CASE
        WHEN (CASE WHEN {anew} OR r.state = 2 THEN $2::smallint ELSE r.recovery END) = 1 THEN $8::bigint ELSE 0
        END) * interval '1 millisecond',
    life = $8::bigint,
    released_life = $9::bigint,
    status = NULL,
    body_bytes = 0,
    watched = r.watched AND NOT coalesce({anew}, false),
    progress = CASE WHEN {anew} THEN NULL ELSE r.progress END,
    request = $10::bytea,
    completion = NULL
FROM held WHERE r.id = held.id
RETURNING r.fence, r.attempt, r.progress {durable}
