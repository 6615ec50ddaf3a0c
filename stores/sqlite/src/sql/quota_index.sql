-- Made by the first claim that asks for a quota, so that nobody else pays for it.
CREATE INDEX IF NOT EXISTS record_quota ON record (principal, expires, body_until, body_bytes);
