//! Which of a cluster's slots a key is in: CRC-16 (XMODEM) of its hash tag, modulo 16384, as the Redis Cluster
//! specification has it.

pub(crate) const SLOTS: u16 = 16384;

pub(crate) fn of(key: &[u8]) -> u16 {
    crc16(tag(key)) % SLOTS
}

/// What is between the first brace and the next closing one, if that is not nothing; else all.
fn tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else { return key };
    let rest = &key[open + 1..];
    match rest.iter().position(|byte| *byte == b'}') {
        None | Some(0) => key,
        Some(close) => &rest[..close],
    }
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    // The specification's own check value, and what `CLUSTER KEYSLOT` says of the rest.
    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(super::crc16(b"123456789"), 0x31C3);
        for (key, slot) in
            [("foo", 12182), ("{user1000}.following", 3443), ("a{}b", 13694), ("semel:{00}:a", 13254)]
        {
            assert_eq!(super::of(key.as_bytes()), slot, "{key}");
        }
        assert_eq!(super::of(b"semel:{ab}"), super::of(b"semel:{ab}:s:00"));
    }
}
