UPDATE {schema}.record AS r SET progress = $3::bytea
WHERE r.id = $1::bytea AND r.fence = $2::bigint AND r.state = 0 AND (r.recovery = 1 OR r.lease_until > {now})
RETURNING true {durable}
