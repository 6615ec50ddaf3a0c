UPDATE {schema}.record AS r SET
    state = 1,
    changed = {now},
    lease_until = NULL,
    expires = {now} + $3::bigint * interval '1 millisecond',
    body_until = CASE WHEN $5::bigint IS NOT NULL THEN {now} + $4::bigint * interval '1 millisecond' END,
    due = {now} + CASE WHEN $5::bigint IS NOT NULL THEN least($3::bigint, $4::bigint) ELSE $3::bigint END
        * interval '1 millisecond',
    status = $6::integer,
    body_bytes = coalesce($5::bigint, 0),
    progress = NULL,
    request = NULL,
    completion = $7::bytea
WHERE r.id = $1::bytea AND r.fence = $2::bigint AND r.state IN (0, 3)
RETURNING {told} {durable}
