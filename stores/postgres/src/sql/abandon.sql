-- With the record as it was, since a takeover is left as it is.
WITH done AS (
    UPDATE {schema}.record AS r SET state = 3, changed = least(r.lease_until, {now}), due = NULL
    WHERE r.id = $1::bytea AND r.fence = $2::bigint AND r.state = 0 AND r.recovery = 0
    RETURNING true AS applied, {told} {durable}
)
SELECT {clock}, done.applied, {record}
FROM (SELECT) AS one LEFT JOIN done ON true LEFT JOIN {schema}.record AS r ON r.id = $1::bytea
