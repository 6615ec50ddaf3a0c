record_send(ROW(r.id, r.state, r.recovery, r.attempt, r.fence, r.claim, r.op, r.fingerprint, r.settings, r.principal,
    r.created, r.changed, r.lease_until, r.expires, r.body_until, r.status, r.body_bytes, r.progress))
