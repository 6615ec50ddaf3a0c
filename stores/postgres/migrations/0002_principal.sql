-- Version 2: an index by principal, for quotas, and the oldest version that a program has to know to use this schema.
-- Nobody claims while the index is made. Where the table is large, make it before, by the same name:
--   CREATE INDEX CONCURRENTLY record_principal ON {schema}.record (principal) WHERE principal IS NOT NULL;
CREATE INDEX IF NOT EXISTS record_principal ON {schema}.record (principal) WHERE principal IS NOT NULL;

ALTER TABLE {schema}.meta ADD COLUMN oldest integer NOT NULL DEFAULT 1;

UPDATE {schema}.meta SET version = 2;
