-- Version 1: one row of settings, one row a record, and the numbers that claims are told apart by.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = '{name}') THEN
        CREATE SCHEMA {schema};
    END IF;
END
$$;

CREATE TABLE {schema}.meta (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL,
    secret bytea,               -- NULL where the secret is configured
    secret_check bytea          -- tells whether a configured secret is the one of this schema; NULL before the first opening
);

-- CACHE 1: numbers that a session sets aside would be handed out late, and fences must grow.
CREATE SEQUENCE {schema}.fence AS bigint CACHE 1 NO CYCLE;

CREATE TABLE {schema}.record (
    id bytea PRIMARY KEY CHECK (octet_length(id) = 32),
    state smallint NOT NULL,    -- 0 in flight, 1 completed, 2 released, 3 unknown
    recovery smallint NOT NULL, -- 0 hold, 1 takeover
    attempt bigint NOT NULL,
    fence bigint NOT NULL,
    claim bytea NOT NULL,
    op bytea,                   -- the last resolution's own number
    fingerprint bytea,          -- NULL: a released record that binds nothing
    settings text NOT NULL,
    principal bytea,
    created timestamptz NOT NULL,
    changed timestamptz NOT NULL,
    lease_until timestamptz,
    expires timestamptz,
    body_until timestamptz,     -- NULL where no body is kept
    due timestamptz,            -- when a sweep has to look, or earlier; NULL: never
    life bigint NOT NULL,       -- of an unclaimed takeover, ms
    released_life bigint NOT NULL,
    status integer,
    body_bytes bigint NOT NULL DEFAULT 0,
    watched boolean NOT NULL DEFAULT false, -- whether somebody listens for its end
    progress bytea,
    request bytea,
    completion bytea
);

-- Bodies are compressed already or too small to gain by it.
ALTER TABLE {schema}.record
    ALTER progress SET STORAGE EXTERNAL,
    ALTER request SET STORAGE EXTERNAL,
    ALTER completion SET STORAGE EXTERNAL;

CREATE INDEX record_due ON {schema}.record (due) WHERE due IS NOT NULL;

INSERT INTO {schema}.meta (version) VALUES (1);
