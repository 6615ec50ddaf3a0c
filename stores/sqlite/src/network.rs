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
    let kind = rustix::fs::statfs(folder).ok()?.f_type;
    NETWORKED.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name)
}

/// Only Linux says by number what a file system is.
#[cfg(not(target_os = "linux"))]
pub(crate) fn name_of(_folder: &Path) -> Option<&'static str> {
    None
}
