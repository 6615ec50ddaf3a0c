SELECT {clock}, {record}
FROM {schema}.record AS r WHERE r.id = ANY ($1::bytea[])
