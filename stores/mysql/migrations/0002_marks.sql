-- Version 2: a row for each open transaction of a handler. It shows whether one that is gone was committed.
CREATE TABLE IF NOT EXISTS {p}mark (
    n BIGINT NOT NULL PRIMARY KEY
) ENGINE=InnoDB;

UPDATE {p}meta SET version = GREATEST(version, 2) WHERE one = 1;
