-- Records of one principal, and the bytes of the bodies that they still keep.
SELECT count(*), coalesce(sum(iif(body_until > ?2, body_bytes, 0)), 0)
FROM record WHERE principal IS ?1 AND (expires IS NULL OR expires > ?2)
