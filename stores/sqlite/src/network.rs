//! File systems on which SQLite's locks and shared memory cannot be relied on.

use std::path::Path;

/// Magic numbers of statfs(2), as in `linux/magic.h` and the file systems' own sources.
#[cfg(target_os = "linux")]
const NETWORKED: &[(i64, &str)] = &[
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9P"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x564c, "NCP"),
    (0x00c3_6400, "Ceph"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x786f_4256, "a VirtualBox share"),
    // sshfs, s3fs and many more; a local one cannot be told from them.
    (0x6573_5546, "FUSE"),
];

/// The name of such a file system, if the folder is on one.
#[cfg(target_os = "linux")]
pub(crate) fn name_of(folder: &Path) -> Option<&'static str> {
    name_of_kind(rustix::fs::statfs(folder).ok()?.f_type)
}

#[cfg(target_os = "linux")]
#[allow(clippy::useless_conversion, reason = "the kernel's word has 32 bits, and a sign, on some machines")]
fn name_of_kind(kind: rustix::fs::FsWord) -> Option<&'static str> {
    let kind = i64::from(kind) & 0xffff_ffff;
    NETWORKED.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name)
}

/// Only Linux says by number what a file system is.
#[cfg(not(target_os = "linux"))]
pub(crate) fn name_of(_folder: &Path) -> Option<&'static str> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn local_file_systems_are_not_taken_for_networked_ones() {
        // ext4, xfs, btrfs, tmpfs, overlayfs, zfs, f2fs
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1, 0xf2f5_2010] {
            assert_eq!(name_of_kind(local), None, "{local:x}");
        }
        assert_eq!(name_of_kind(0x6969), Some("NFS"));
        assert_eq!(name_of_kind(0xff53_4d42), Some("CIFS"));
        assert_eq!(name_of(Path::new("/proc")), None);
    }
}
