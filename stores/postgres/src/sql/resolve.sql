-- $4 NULL: nothing was done.
UPDATE {schema}.record AS r SET
    fence = greatest(nextval('{schema}.fence'::regclass), r.fence + 1),
    op = $3::bytea,
    state = CASE WHEN $4::bytea IS NULL THEN 2 ELSE 1 END,
    changed = {now},
    lease_until = NULL,
    expires = {now} + $5::bigint * interval '1 millisecond',
    body_until = CASE WHEN $7::bigint IS NOT NULL THEN {now} + $6::bigint * interval '1 millisecond' END,
    due = {now} + CASE WHEN $7::bigint IS NOT NULL THEN least($5::bigint, $6::bigint) ELSE $5::bigint END
        * interval '1 millisecond',
    status = $8::integer,
    body_bytes = coalesce($7::bigint, 0),
    progress = CASE WHEN $4::bytea IS NULL THEN r.progress END,
    request = NULL,
    completion = $4::bytea
WHERE r.id = $1::bytea AND r.fence = $2::bigint
    AND (r.state = 3 OR (r.state = 0 AND r.recovery = 0 AND r.lease_until <= {now}))
RETURNING {clock}, {record}, {told} {durable}
