-- Version 1. One row of settings and counters, and one row a record.
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    secret BLOB,                 -- NULL where the secret was configured
    secret_check BLOB NOT NULL,  -- tells whether a configured secret is the one of this file
    fence INTEGER NOT NULL,      -- the last one handed out
    seen INTEGER NOT NULL,       -- the latest instant that anybody wrote, ms
    boot BLOB,                   -- the machine's boot that `base` belongs to
    base INTEGER NOT NULL        -- this file's time when that boot began, ms
) STRICT;

CREATE TABLE record (
    n INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    state INTEGER NOT NULL,      -- 0 in flight, 1 completed, 2 released, 3 unknown
    recovery INTEGER NOT NULL,   -- 0 hold, 1 takeover
    attempt INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    claim BLOB NOT NULL,
    op BLOB,                     -- the last resolution's own number
    fingerprint BLOB,            -- NULL: a released record that binds nothing
    settings TEXT NOT NULL,
    principal BLOB,
    created INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    lease_until INTEGER,
    expires INTEGER,
    body_until INTEGER,          -- NULL where no body is kept
    due INTEGER,                 -- when a sweep has to look; NULL: never
    life INTEGER NOT NULL,       -- of an unclaimed takeover, ms
    released_life INTEGER NOT NULL,
    status INTEGER,
    body_bytes INTEGER NOT NULL,
    progress BLOB,
    request BLOB,
    completion BLOB              -- last: the columns before it are read without its pages
) STRICT;

CREATE UNIQUE INDEX record_id ON record (id);
CREATE INDEX record_due ON record (due) WHERE due IS NOT NULL;
