-- Writes down that a lease ended under hold, as of then.
UPDATE {schema}.record AS r SET state = 3, changed = r.lease_until, due = NULL
WHERE r.id = $1::bytea AND r.fence = $2::bigint AND r.state = 0 AND r.recovery = 0 AND r.lease_until <= {now}
RETURNING {told} {durable}
