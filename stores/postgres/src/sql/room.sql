(SELECT ($12::bigint IS NULL OR count(*) < $12::bigint)
        AND ($13::bigint IS NULL OR coalesce(sum(CASE WHEN k.body_until > {now} THEN k.body_bytes END), 0) < $13::bigint)
    FROM {schema}.record AS k
    WHERE (k.principal = $6::bytea OR ($6::bytea IS NULL AND k.principal IS NULL))
        AND (k.expires IS NULL OR k.expires > {now}))
