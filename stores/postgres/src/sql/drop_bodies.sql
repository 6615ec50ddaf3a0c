-- An empty answer stands for one that does not decode: it is left as it is until its record ends.
WITH bare AS (
    SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bytea[]) AS bare (id, fence, completion)
), held AS MATERIALIZED (
    SELECT r.id, bare.completion FROM {schema}.record AS r JOIN bare ON bare.id = r.id AND bare.fence = r.fence
    WHERE r.state = 1 AND r.body_until IS NOT NULL
    ORDER BY r.id
    FOR UPDATE OF r
)
UPDATE {schema}.record AS r SET
    body_until = NULL,
    due = r.expires,
    body_bytes = CASE WHEN octet_length(held.completion) = 0 THEN r.body_bytes ELSE 0 END,
    completion = CASE WHEN octet_length(held.completion) = 0 THEN r.completion ELSE held.completion END
FROM held WHERE r.id = held.id
RETURNING octet_length(held.completion) > 0 {durable}
