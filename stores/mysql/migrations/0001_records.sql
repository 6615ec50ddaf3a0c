-- Version 1: one row of settings, one row a record, and the numbers that claims are told apart by. Each statement may
-- be run again: what defines a table commits by itself, so a step that was cut off goes on from its beginning.
CREATE TABLE IF NOT EXISTS {p}meta (
    one TINYINT NOT NULL PRIMARY KEY,
    version INT NOT NULL,
    secret VARBINARY(32),
    secret_check VARBINARY(64)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS {p}fence (
    n BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS {p}slot (
    n SMALLINT NOT NULL PRIMARY KEY
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS {p}record (
    id BINARY(32) NOT NULL PRIMARY KEY,
    state TINYINT NOT NULL,
    recovery TINYINT NOT NULL,
    attempt BIGINT NOT NULL,
    fence BIGINT NOT NULL,
    claim BINARY(16) NOT NULL,
    op BINARY(16),
    fingerprint BINARY(32),
    settings BLOB NOT NULL,
    principal BINARY(32),
    created BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    lease_until BIGINT,
    expires BIGINT,
    body_until BIGINT,
    due BIGINT,
    life BIGINT NOT NULL,
    released_life BIGINT NOT NULL,
    status SMALLINT,
    body_bytes BIGINT NOT NULL,
    progress LONGBLOB,
    request LONGBLOB,
    completion LONGBLOB,
    KEY record_due (due),
    KEY record_principal (principal)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

INSERT INTO {p}meta (one, version) VALUES (1, 1) ON DUPLICATE KEY UPDATE version = GREATEST(version, 1);
