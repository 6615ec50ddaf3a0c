SELECT {clock}, {record}, CASE WHEN r.state = 1 THEN r.completion END
FROM (SELECT) AS one LEFT JOIN {schema}.record AS r ON r.id = $1::bytea
