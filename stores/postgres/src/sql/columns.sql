r.id, r.state, r.recovery, r.attempt, r.fence, r.claim, r.op, r.fingerprint, r.settings, r.principal,
    (extract(epoch FROM r.created) * 1000)::bigint, (extract(epoch FROM r.changed) * 1000)::bigint,
    (extract(epoch FROM r.lease_until) * 1000)::bigint, (extract(epoch FROM r.expires) * 1000)::bigint,
    (extract(epoch FROM r.body_until) * 1000)::bigint, r.status, r.body_bytes, r.progress
