// SPDX-License-Identifier: GPL-2.0
//! What a file has besides its bytes, and giving it back: as much as the caller may, and never more
//! rights than it had.

use crate::manifest::Entry;
use anyhow::Result;
use rustix::fs::{
    fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, futimens, Gid, Mode, Timespec,
    Timestamps, Uid, XattrFlags,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

/// Most bytes of a file's extended attributes; the kernel has no longer list.
const MOST: usize = 1 << 16;
/// Mode bits that run a file with its owner's or group's rights.
const SPECIAL: u32 = 0o6000;
/// Rights of a file that its owner or nobody has.
const PRIVILEGED: [&str; 3] = ["security.", "trusted.", "system."];

/// Owner, group, times and extended attributes of a file.
pub fn read(file: &File, entry: &mut Entry) -> Result<()> {
    let data = file.metadata()?;
    entry.mode = data.mode() & 0o7777;
    entry.uid = Some(data.uid());
    entry.gid = Some(data.gid());
    entry.atime = Some((data.atime(), data.atime_nsec()));
    entry.mtime = Some((data.mtime(), data.mtime_nsec()));
    entry.xattrs = extended(file);
    Ok(())
}

/// By their names, in hexadecimal. A file system without any has none.
fn extended(file: &File) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut names = vec![0; MOST];
    let length = flistxattr(file, names.as_mut_slice()).unwrap_or(0);
    let names = names.get(..length).unwrap_or_default();
    let mut left = MOST;
    for name in names.split(|byte| *byte == 0) {
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        let mut value = vec![0; left];
        if name.is_empty() {
            continue;
        }
        if let Ok(length) = fgetxattr(file, name, value.as_mut_slice()) {
            left -= length;
            let value = value.get(..length).unwrap_or_default();
            let text = value.iter().map(|byte| format!("{byte:02x}")).collect();
            all.insert(name.to_owned(), text);
        }
    }
    all
}

/// Gives them to a new file of the caller's. `owner` is the only one that may be given; anybody, if
/// there is none. What the caller could not give is named.
///
/// # Errors
///
/// The file cannot even have a mode.
pub fn write(file: &File, entry: &Entry, owner: Option<u32>) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    let uid = entry
        .uid
        .filter(|uid| owner.is_none_or(|only| only == *uid));
    let gid = entry.gid.filter(|_| uid.is_some() || owner.is_none());
    // First the group: afterwards the file may be another's.
    if let Some(gid) = gid {
        let _ = fchown(file, None, Some(Gid::from_raw(gid)));
    }
    if let Some(uid) = uid {
        let _ = fchown(file, Some(Uid::from_raw(uid)), None);
    }
    let now = fstat(file)?;
    let same = |was: Option<u32>, is: u32| was == Some(is);
    let (own, group) = (same(entry.uid, now.st_uid), same(entry.gid, now.st_gid));
    if !own {
        missing.push("owner".to_owned());
    }
    if !group {
        missing.push("group".to_owned());
    }
    let mode = mode(entry.mode, own && owner.is_none(), group);
    if mode != entry.mode {
        missing.push(format!("mode {:04o}, which is {mode:04o} now", entry.mode));
    }
    for (name, value) in &entry.xattrs {
        let rights = PRIVILEGED.iter().any(|begin| name.starts_with(begin));
        let may = !rights || (own && group && owner.is_none());
        let done = bytes(value)
            .filter(|_| may)
            .map(|value| fsetxattr(file, name.as_str(), &value, XattrFlags::empty()));
        if !matches!(done, Some(Ok(()))) {
            missing.push(crate::report::plain(name));
        }
    }
    // After the lists of rights, which change it too.
    fchmod(file, Mode::from_raw_mode(mode))?;
    let time = |at: Option<(i64, i64)>| at.filter(|at| (0..1_000_000_000).contains(&at.1));
    if let (Some(atime), Some(mtime)) = (time(entry.atime), time(entry.mtime)) {
        let spec = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
        let times = Timestamps {
            last_access: spec(atime),
            last_modification: spec(mtime),
        };
        if futimens(file, &times).is_err() {
            missing.push("times".to_owned());
        }
    }
    Ok(missing)
}

/// The mode it may have: nobody gets rights who had none.
fn mode(was: u32, owner: bool, group: bool) -> u32 {
    let mut mode = was & 0o7777;
    if !(owner && group) {
        mode &= !SPECIAL;
    }
    if !group {
        // Another group has what everybody has.
        mode &= !0o070 | (mode & 0o007) << 3;
    }
    mode
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if hex.len() % 2 != 0 || hex.len() > 2 * MOST || !hex.is_ascii() {
        return None;
    }
    let pairs = (0..hex.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> bool {
        rustix::process::geteuid().is_root()
    }

    fn entry(mode: u32, uid: u32, gid: u32) -> Entry {
        Entry {
            mode,
            uid: Some(uid),
            gid: Some(gid),
            mtime: Some((1_000_000_000, 5)),
            atime: Some((1_000_000_001, 6)),
            ..Entry::default()
        }
    }

    #[test]
    fn nobody_gets_rights_who_had_none() {
        assert_eq!(mode(0o6755, true, true), 0o6755);
        assert_eq!(mode(0o4755, false, true), 0o755);
        assert_eq!(mode(0o2755, true, false), 0o755);
        assert_eq!(mode(0o640, true, false), 0o600);
        assert_eq!(mode(0o664, true, false), 0o644);
        assert_eq!(mode(0o1777, false, false), 0o1777);
    }

    #[test]
    fn hexadecimal_and_nothing_else() {
        assert_eq!(bytes("00ff"), Some(vec![0, 255]));
        for bad in ["0", "0g", "é"] {
            assert_eq!(bytes(bad), None);
        }
    }

    #[test]
    fn another_users_setuid_file_stays_that_users() {
        let file = tempfile::tempfile().expect("a file");
        let missing = write(&file, &entry(0o4755, 1000, 1000), None).expect("written");
        let data = file.metadata().expect("metadata");
        if root() {
            assert_eq!(
                (data.uid(), data.gid(), data.mode() & 0o7777),
                (1000, 1000, 0o4755)
            );
            assert!(missing.is_empty(), "{missing:?}");
        } else {
            assert_eq!(data.mode() & 0o7777, 0o755);
        }
        assert_eq!((data.mtime(), data.mtime_nsec()), (1_000_000_000, 5));
    }

    /// What a user's own session says of a file is that user's word: it cannot be root's.
    #[test]
    fn a_users_session_makes_no_file_of_roots() {
        let file = tempfile::tempfile().expect("a file");
        let mut forged = entry(0o4755, 0, 0);
        let capability = "security.capability".to_owned();
        forged
            .xattrs
            .insert(capability.clone(), "0100000200000000".into());
        let missing = write(&file, &forged, Some(1000)).expect("written");
        assert_eq!(file.metadata().expect("metadata").mode() & 0o7777, 0o755);
        assert!(missing.contains(&capability), "{missing:?}");
        assert!(!extended(&file).contains_key(&capability));
    }

    #[test]
    fn extended_attributes_come_back() {
        let folder = tempfile::tempdir_in(".").expect("a folder");
        let from = File::create(folder.path().join("from")).expect("a file");
        if fsetxattr(&from, "user.luoctl", b"\0\xffx", XattrFlags::empty()).is_err() {
            eprintln!("this file system has none");
            return;
        }
        let mut entry = Entry::default();
        read(&from, &mut entry).expect("read");
        let to = File::create(folder.path().join("to")).expect("a file");
        assert!(write(&to, &entry, None).expect("written").is_empty());
        assert_eq!(
            extended(&to).get("user.luoctl").map(String::as_str),
            Some("00ff78")
        );
    }
}
