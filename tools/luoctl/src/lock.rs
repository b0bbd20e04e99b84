// SPDX-License-Identifier: GPL-2.0
//! One luoctl at a time changes what the next kexec does: a locked file says which.

use crate::ending::MayNot;
use anyhow::{bail, Context, Result};
use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Where it is.
pub const PATH: &str = "/run/luoctl.lock";

/// Held until it is dropped, or the process ends.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] File);

/// Takes it, and notes down for whom.
///
/// # Errors
///
/// Somebody else has it: the error says who.
pub fn take(path: &Path, what: &str) -> Result<Lock> {
    let mut file = open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            bail!("{} is at it; nothing was done", who(&mut file));
        }
        Err(errno) => return Err(errno).context("cannot lock against other luoctls"),
    }
    file.set_len(0)?;
    file.rewind()?;
    let user = std::env::var("SUDO_USER").ok();
    let user = user.map_or(String::new(), |user| format!(" of {user}"));
    let line = format!("`{what}`{user} (process {})", std::process::id());
    file.write_all(line.as_bytes())?;
    Ok(Lock(file))
}

/// Who has it, if somebody does.
pub fn holder(path: &Path) -> Option<String> {
    let mut file = open(path).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Some(who(&mut file)),
        _ => None,
    }
}

fn open(path: &Path) -> Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    match file {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(MayNot("only root can change what the next kexec does; run luoctl as root").into())
        }
        other => other.with_context(|| format!("cannot open {}", path.display())),
    }
}

fn who(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.rewind();
    let _ = file.take(400).read_to_string(&mut text);
    match text.trim() {
        "" => "another luoctl".into(),
        text => crate::report::plain(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_has_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        assert_eq!(holder(&path), None);
        let first = take(&path, "luoctl update").expect("taken");
        let said = take(&path, "luoctl load").expect_err("held").to_string();
        let me = format!("process {}", std::process::id());
        assert!(
            said.contains("luoctl update") && said.contains(&me),
            "{said}"
        );
        assert!(holder(&path).is_some());
        drop(first);
        drop(take(&path, "luoctl load").expect("free again"));
    }

    #[test]
    fn a_link_that_somebody_put_there_is_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("target");
        std::fs::write(&target, "dear").expect("written");
        let path = folder.path().join("lock");
        std::os::unix::fs::symlink(&target, &path).expect("a link");
        take(&path, "x").expect_err("not followed");
        assert_eq!(std::fs::read_to_string(&target).expect("read"), "dear");
    }
}
