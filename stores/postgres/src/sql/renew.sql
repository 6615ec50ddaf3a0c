-- Locks in the order of ids: two heartbeats with the same leases must not wait for each other. A sweep looks when
-- the lease was first due; it sees that it was renewed.
WITH asked AS (
    SELECT id, fence FROM unnest($1::bytea[], $2::bigint[]) AS asked (id, fence)
), held AS MATERIALIZED (
    SELECT r.id FROM {schema}.record AS r JOIN asked ON asked.id = r.id AND asked.fence = r.fence
    WHERE r.state = 0 AND (r.recovery = 1 OR r.lease_until > {now})
    ORDER BY r.id
    FOR UPDATE OF r
)
UPDATE {schema}.record AS r
SET lease_until = greatest(r.lease_until, {now} + $3::bigint * interval '1 millisecond')
FROM held WHERE r.id = held.id
RETURNING r.id {durable}
