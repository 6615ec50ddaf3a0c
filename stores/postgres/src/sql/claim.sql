-- A new record, or the one that is there. Looks first: an insert that loses would use up a number of the sequence,
-- whose log a replay must not write. Says all of it in few columns: each takes the server time, a claim that finds
-- nothing included. No row of either kind: somebody else's came or went meanwhile.
WITH found AS MATERIALIZED (
    SELECT {record} AS record, CASE
        WHEN r.state = 1 AND r.fingerprint = $4::bytea AND r.principal IS NOT DISTINCT FROM $6::bytea THEN r.completion
    END AS completion
    FROM {schema}.record AS r WHERE r.id = $1::bytea
), made AS (
    INSERT INTO {schema}.record
        (id, state, recovery, attempt, fence, claim, fingerprint, settings, principal,
         created, changed, lease_until, due, life, released_life, request)
    SELECT $1::bytea, 0, $2::smallint, 1, nextval('{schema}.fence'::regclass), $3::bytea, $4::bytea, $5::text, $6::bytea,
        clock.now, clock.now, clock.now + $7::bigint * interval '1 millisecond',
        clock.now + ($7::bigint + CASE WHEN $2::smallint = 1 THEN $8::bigint ELSE 0 END) * interval '1 millisecond',
        $8::bigint, $9::bigint, $10::bytea
    FROM (SELECT {now} AS now) AS clock
    WHERE NOT EXISTS (SELECT FROM found)
        AND ($11::bigint IS NULL OR extract(epoch FROM clock.now) * 1000 - $11::bigint <= $8::bigint)
        AND {room}
    ON CONFLICT (id) DO NOTHING
    RETURNING fence {durable}
)
SELECT {clock}, made.fence, {room}, found.record, found.completion
FROM (SELECT) AS one LEFT JOIN made ON true LEFT JOIN found ON true
