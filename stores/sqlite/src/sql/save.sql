UPDATE record SET state = ?1, recovery = ?2, attempt = ?3, fence = ?4, claim = ?5, op = ?6, fingerprint = ?7, settings = ?8,
    principal = ?9, created = ?10, changed = ?11, lease_until = ?12, expires = ?13, body_until = ?14, due = ?15,
    life = ?16, released_life = ?17, status = ?18, body_bytes = ?19, progress = ?20
WHERE n = ?21
