-- Many claims at once, in the order of their ids, so that two such statements never wait for each other. As for
-- one claim; who was granted comes with the first row.
WITH found AS MATERIALIZED (
    SELECT a.*, r.*
    FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::bytea[], $5::text[], $6::bytea[],
            $7::bigint[], $8::bigint[], $9::bigint[]) WITH ORDINALITY
        AS a (a_id, a_recovery, a_claim, a_fingerprint, a_settings, a_principal, a_lease, a_life, a_released, place)
    LEFT JOIN {schema}.record AS r ON r.id = a.a_id
), made AS (
    INSERT INTO {schema}.record
        (id, state, recovery, attempt, fence, claim, fingerprint, settings, principal,
         created, changed, lease_until, due, life, released_life)
    SELECT a_id, 0, a_recovery::smallint, 1, nextval('{schema}.fence'::regclass), a_claim, a_fingerprint, a_settings,
        a_principal, clock.now, clock.now, clock.now + a_lease * interval '1 millisecond',
        clock.now + (a_lease + a_recovery * a_life) * interval '1 millisecond', a_life, a_released
    FROM found CROSS JOIN (SELECT {now} AS now) AS clock
    WHERE found.id IS NULL
    ORDER BY a_id
    ON CONFLICT (id) DO NOTHING
    RETURNING id || claim AS name, fence {durable}
)
SELECT {clock},
    CASE WHEN r.place = 1 THEN (SELECT array_agg(name) FROM made) END,
    CASE WHEN r.place = 1 THEN (SELECT array_agg(fence) FROM made) END,
    {record},
    CASE WHEN r.state = 1 AND r.fingerprint = r.a_fingerprint AND r.principal IS NOT DISTINCT FROM r.a_principal
        THEN r.completion END
FROM found AS r ORDER BY r.place
