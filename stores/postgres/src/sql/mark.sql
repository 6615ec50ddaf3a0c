UPDATE {schema}.record AS r SET watched = true
WHERE r.id = $1::bytea AND r.state = 0 AND NOT r.watched
RETURNING true {durable}
