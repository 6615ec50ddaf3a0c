-- Looks at so many records, and gives those of the wanted state and the last one looked at, marked.
SELECT {clock}, r.fits, r.place, r.looked_at, {record}
FROM (
    SELECT page.*, row_number() OVER (ORDER BY page.id) AS place, count(*) OVER () AS looked_at,
        (page.expires IS NULL OR page.expires > {now}) AND ($2::smallint IS NULL OR $2::smallint = CASE
            WHEN page.state = 0 AND page.recovery = 0 AND page.lease_until <= {now} THEN 3 ELSE page.state
        END) AS fits
    FROM (
        SELECT * FROM {schema}.record WHERE id > $1::bytea ORDER BY id LIMIT $3::bigint
    ) AS page
) AS r
WHERE r.fits OR r.place = r.looked_at
ORDER BY r.id
