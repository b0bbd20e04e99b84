// SPDX-License-Identifier: GPL-2.0
//! The note of what has arrived: a file that only this boot believes, written whole or not at all.

use crate::catalogue::MAX_BYTES;
use crate::kept::Boot;
use rustix::fs::{open, Mode, OFlags};
use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Writes it, in the place of what was there. The file has a name that nobody can know before, so
/// nothing is written through a link, and it is root's alone.
///
/// # Errors
///
/// What was there is there still.
pub fn write_note(path: &Path, boot: &Boot, record: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut fresh = tempfile::Builder::new()
        .prefix(".record-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    writeln!(fresh, "{boot}")?;
    fresh.write_all(record)?;
    fresh.as_file().sync_all()?;
    fresh.persist(path)?;
    File::open(folder)?.sync_all()
}

/// What was written in this boot, if that file is ours.
pub fn read_note(path: &Path, boot: &Boot) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty()).ok()?);
    let found = file.metadata().ok()?;
    let ours = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
    if !found.is_file() || !ours {
        return None;
    }
    let mut text = Vec::new();
    file.take(2 * MAX_BYTES as u64)
        .read_to_end(&mut text)
        .ok()?;
    let first = format!("{boot}\n");
    text.strip_prefix(first.as_bytes()).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).expect("it is there").mode()
    }

    #[test]
    fn it_is_read_as_it_was_written_and_in_this_boot_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("record");
        let (boot, other) = (Boot::new("ab-12"), Boot::new("ab-13"));
        write_note(&path, &boot, b"one").expect("written");
        write_note(&path, &boot, b"{\"two\"}\n").expect("written");
        assert_eq!(
            read_note(&path, &boot).as_deref(),
            Some(&b"{\"two\"}\n"[..])
        );
        assert_eq!(read_note(&path, &other), None);
        assert_eq!(mode(&path), 0o100_600);
        let left = std::fs::read_dir(folder.path()).expect("ours").count();
        assert_eq!(left, 1);
    }

    #[test]
    fn nothing_is_written_or_read_through_a_link() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("record");
        let victim = folder.path().join("victim");
        let boot = Boot::new("ab-12");
        std::fs::write(&victim, "ab-12\nforged").expect("written");
        for link in ["record", "record.new", ".record-"] {
            symlink(&victim, folder.path().join(link)).expect("a link");
        }
        assert_eq!(read_note(&path, &boot), None);
        write_note(&path, &boot, b"ours").expect("written");
        assert_eq!(std::fs::read(&victim).expect("there"), b"ab-12\nforged");
        assert_eq!(read_note(&path, &boot).as_deref(), Some(&b"ours"[..]));
        // Nor a file that others may write.
        std::fs::set_permissions(&path, Permissions::from_mode(0o622)).expect("set");
        assert_eq!(read_note(&path, &boot), None);
    }

    #[test]
    fn what_cannot_be_written_leaves_the_old_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("none").join("record");
        assert!(write_note(&path, &Boot::new("1"), b"x").is_err());
    }
}
