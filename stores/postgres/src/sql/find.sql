SELECT (extract(epoch FROM {now}) * 1000)::bigint, {columns}
FROM (SELECT) AS one LEFT JOIN {schema}.record AS r ON r.id = $1::bytea
