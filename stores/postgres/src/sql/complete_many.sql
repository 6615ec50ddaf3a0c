-- Takes the rows in the order of the array, which is that of the ids.
UPDATE {schema}.record AS r SET
    state = 1,
    changed = {now},
    lease_until = NULL,
    expires = {now} + a.life * interval '1 millisecond',
    body_until = CASE WHEN a.body_bytes IS NOT NULL THEN {now} + a.body_life * interval '1 millisecond' END,
    due = {now} + CASE WHEN a.body_bytes IS NOT NULL THEN least(a.life, a.body_life) ELSE a.life END
        * interval '1 millisecond',
    status = a.status::integer,
    body_bytes = coalesce(a.body_bytes, 0),
    progress = NULL,
    request = NULL,
    completion = a.completion
FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[])
    AS a (id, fence, life, body_life, body_bytes, status, completion)
WHERE r.id = a.id AND r.fence = a.fence AND r.state IN (0, 3)
RETURNING r.id, r.fence, {told} {durable}
