SELECT r.id, r.fence, r.completion FROM {schema}.record AS r
WHERE r.due <= {now} AND r.state = 1 AND r.body_until <= {now} AND r.expires > {now}
ORDER BY r.due LIMIT $1::bigint
