SELECT {clock}, {record}
FROM (SELECT) AS one LEFT JOIN {schema}.record AS r ON r.id = $1::bytea
