-- Rows that others work on are left for the next sweep.
WITH due AS MATERIALIZED (
    SELECT d.id, d.state, d.recovery, d.expires, d.lease_until, d.life, {now} AS now
    FROM {schema}.record AS d
    WHERE d.due <= {now} AND d.state BETWEEN 0 AND 3 AND NOT (d.state = 1 AND d.expires > {now})
    ORDER BY d.due LIMIT $1::bigint
    FOR UPDATE SKIP LOCKED
), judged AS MATERIALIZED (
    SELECT id, CASE
        WHEN state IN (1, 2) AND expires <= now THEN 'remove'
        WHEN state = 0 AND recovery = 0 AND lease_until <= now THEN 'lapse'
        WHEN state = 0 AND recovery = 1 AND lease_until + life * interval '1 millisecond' <= now THEN 'release'
        ELSE 'later'
    END AS verdict FROM due
), removed AS (
    DELETE FROM {schema}.record AS r USING judged WHERE r.id = judged.id AND judged.verdict = 'remove'
    RETURNING true {durable}
), lapsed AS (
    UPDATE {schema}.record AS r SET state = 3, changed = r.lease_until, due = NULL
    FROM judged WHERE r.id = judged.id AND judged.verdict = 'lapse'
    RETURNING {told} {durable}
), released AS (
    UPDATE {schema}.record AS r SET
        state = 2, changed = {now}, lease_until = NULL, request = NULL,
        expires = {now} + r.released_life * interval '1 millisecond',
        due = {now} + r.released_life * interval '1 millisecond'
    FROM judged WHERE r.id = judged.id AND judged.verdict = 'release'
    RETURNING {told} {durable}
), later AS (
    UPDATE {schema}.record AS r SET due = CASE r.state
        WHEN 0 THEN r.lease_until + r.recovery * r.life * interval '1 millisecond'
        WHEN 3 THEN NULL
        ELSE r.expires
    END
    FROM judged WHERE r.id = judged.id AND judged.verdict = 'later'
    RETURNING true {durable}
)
SELECT (SELECT count(*) FROM due), (SELECT count(*) FROM removed), (SELECT count(*) FROM lapsed),
    (SELECT count(*) FROM released), (SELECT count(*) FROM later)
