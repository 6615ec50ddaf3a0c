SELECT (extract(epoch FROM {now}) * 1000)::bigint, {columns}
FROM {schema}.record AS r WHERE r.id = ANY ($1::bytea[])
