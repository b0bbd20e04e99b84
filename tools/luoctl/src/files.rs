// SPDX-License-Identifier: GPL-2.0
//! Files into a session, and out of it in the next kernel.

use crate::manifest::{Entry, Manifest, MAX_BYTES, TOKEN};
use crate::report::{size, Report};
use crate::{device, hold};
use anyhow::{bail, ensure, Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use liveupdate_uapi::{CreateSessionError, RetrieveSessionError, RetrievedSession};
use rustix::fs::{fcntl_add_seals, memfd_create, MemfdFlags, SealFlags};
use serde_json::json;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;
use twox_hash::XxHash3_128;

/// What is read and written at a time. Pieces of zeros stay holes.
const PIECE: usize = 1 << 20;
const HOLE: usize = 4096;

pub fn preserve(report: &Report, name: &str, paths: &[PathBuf], foreground: bool) -> Result<()> {
    let began = Instant::now();
    let mut sources = Vec::new();
    for path in paths {
        let (name, file) = source(path)?;
        if sources.iter().any(|(other, _, _)| *other == name) {
            bail!("two of the files are called {name}; in a session they must differ");
        }
        sources.push((name, file, path));
    }
    let whole = sources
        .iter()
        .map(|(_, file, _)| file.metadata().map(|data| data.len()));
    let whole = whole.sum::<std::io::Result<u64>>()?;
    let session = match device::open()?.create_session(name) {
        Err(CreateSessionError::Exists) => bail!(
            "a session {name} goes to the next kernel already; `luoctl discard {name}` gives it up if luoctl made it"
        ),
        other => other?,
    };
    let bar = progress(report, whole);
    let mut entries = Vec::new();
    for ((file_name, file, path), token) in sources.into_iter().zip(TOKEN + 1..) {
        let data = file.metadata()?;
        let memfd = File::from(memfd_create("luoctl", MemfdFlags::CLOEXEC)?);
        let xxh3 = copy(&file, &memfd, data.len(), &bar)
            .with_context(|| format!("cannot read {}", path.display()))?;
        session
            .preserve(&memfd, token)
            .with_context(|| path.display().to_string())?;
        entries.push(Entry {
            token,
            name: file_name,
            size: data.len(),
            mode: data.permissions().mode() & 0o7777,
            xxh3,
        });
    }
    bar.finish_and_clear();
    let manifest = Manifest::new(entries);
    session.preserve(sealed(&manifest.to_bytes()?)?, TOKEN)?;
    let count = manifest.files.len();
    let seconds = began.elapsed().as_secs_f64();
    let tell = |pid: Option<u32>| {
        let kept = match pid {
            Some(pid) => format!("; process {pid} keeps it open"),
            None => "; until this process ends".into(),
        };
        report.tell(
            &format!(
                "session {name}: {count} files, {} are preserved ({seconds:.2} s){kept}",
                size(whole)
            ),
            json!({"session": name, "files": manifest.files, "bytes": whole, "seconds": seconds, "pid": pid}),
        );
    };
    if foreground {
        tell(None);
        loop {
            std::thread::park();
        }
    }
    tell(Some(hold::start(name, session.into())?));
    Ok(())
}

fn source(path: &Path) -> Result<(String, File)> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
    ensure!(
        file.metadata()?.is_file(),
        "{shown} is no regular file; only those can be preserved"
    );
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("the name of {shown} is not text"))?;
    Ok((name.to_owned(), file))
}

fn progress(report: &Report, bytes: u64) -> ProgressBar {
    if report.json() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}");
    let bar = ProgressBar::new(bytes);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Copies so many bytes, all of them, and says their checksum. What is zero becomes a hole.
fn copy(mut from: &File, to: &File, bytes: u64, bar: &ProgressBar) -> Result<String> {
    to.set_len(bytes).context("not enough memory or space")?;
    let mut piece = vec![0; PIECE];
    let mut sum = XxHash3_128::new();
    let mut at = 0;
    while at < bytes {
        let most = usize::try_from(bytes - at).unwrap_or(PIECE).min(PIECE);
        let count = from.read(piece.get_mut(..most).unwrap_or_default())?;
        ensure!(
            count > 0,
            "it has become shorter; {at} of {bytes} bytes were there"
        );
        let got = piece.get(..count).unwrap_or_default();
        sum.write(got);
        for (start, part) in without_holes(got) {
            to.write_all_at(part, at + start as u64)
                .context("cannot write")?;
        }
        at += count as u64;
        bar.inc(count as u64);
    }
    let more = from.read(piece.get_mut(..1).unwrap_or_default())?;
    ensure!(more == 0, "it has become longer while it was read");
    Ok(format!("{:032x}", sum.finish_128()))
}

/// The parts that are to be written, each as long as it can be, and where they begin.
fn without_holes(piece: &[u8]) -> Vec<(usize, &[u8])> {
    let zeros = [0; HOLE];
    let mut parts = Vec::new();
    let mut start = None;
    for (at, block) in (0..).step_by(HOLE).zip(piece.chunks(HOLE)) {
        let hole = zeros.starts_with(block);
        if hole {
            let begun = start.take();
            parts.extend(begun.and_then(|begun| Some((begun, piece.get(begun..at)?))));
        } else {
            start.get_or_insert(at);
        }
    }
    parts.extend(start.and_then(|begun| Some((begun, piece.get(begun..)?))));
    parts
}

/// A memfd that nobody can change.
fn sealed(bytes: &[u8]) -> Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("manifest", flags)?);
    file.write_all(bytes)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&file, seals)?;
    Ok(file)
}

/// A session that has arrived; also one that an earlier try has left with a process in the background.
pub fn incoming(name: &str) -> Result<RetrievedSession> {
    match device::open()?.retrieve_session(name) {
        Ok(session) => Ok(session),
        Err(RetrieveSessionError::AlreadyRetrieved) => match hold::borrow(name) {
            Some(session) => Ok(session.into()),
            None => {
                bail!("another process has retrieved the session {name}; `luoctl list` says which")
            }
        },
        Err(RetrieveSessionError::Unknown) => {
            bail!("no session {name} has arrived; `luoctl list` names those that have")
        }
        Err(error) => Err(error.into()),
    }
}

pub fn retrieve(report: &Report, name: &str, to: &Path) -> Result<()> {
    let began = Instant::now();
    let session = incoming(name)?;
    let manifest = match write_all(report, &session, to) {
        Ok(manifest) => manifest,
        Err(error) => {
            // What it holds is nowhere else.
            let kept = match hold::end(name).and_then(|_| hold::start(name, session.into())) {
                Ok(_) => "the session is kept; repeat the command when that is mended",
                Err(_) => "the session is lost",
            };
            return Err(error.context(kept));
        }
    };
    session.finish()?;
    hold::end(name)?;
    let bytes = manifest.files.iter().map(|entry| entry.size).sum();
    let seconds = began.elapsed().as_secs_f64();
    report.tell(
        &format!(
            "session {name}: {} files, {} are in {} as they were ({seconds:.2} s)",
            manifest.files.len(),
            size(bytes),
            to.display()
        ),
        json!({"session": name, "files": manifest.files, "bytes": bytes, "seconds": seconds}),
    );
    Ok(())
}

fn write_all(report: &Report, session: &RetrievedSession, to: &Path) -> Result<Manifest> {
    let list = session
        .retrieve(TOKEN)
        .context("the session has no list of files; was it made by `luoctl preserve`?")?;
    let mut list = File::from(list);
    list.rewind()?;
    let mut bytes = Vec::new();
    list.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let manifest = Manifest::from_bytes(&bytes)?;
    fs::create_dir_all(to).with_context(|| format!("cannot make the folder {}", to.display()))?;
    let whole = manifest
        .files
        .iter()
        .fold(0u64, |sum, entry| sum.saturating_add(entry.size));
    let bar = progress(report, whole);
    let mut written = Written(Vec::new());
    for entry in &manifest.files {
        let path = to.join(&entry.name);
        let memfd = session.retrieve(entry.token);
        let memfd = memfd.with_context(|| entry.name.clone())?;
        write_one(memfd, &path, entry, &bar, &mut written)
            .with_context(|| path.display().to_string())?;
    }
    bar.finish_and_clear();
    written.0.clear();
    Ok(manifest)
}

/// Files written by a try that has failed go away again, so that it can be repeated.
struct Written(Vec<PathBuf>);

impl Drop for Written {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

fn write_one(
    memfd: OwnedFd,
    path: &Path,
    entry: &Entry,
    bar: &ProgressBar,
    written: &mut Written,
) -> Result<()> {
    let mut memfd = File::from(memfd);
    memfd.rewind()?;
    let length = memfd.metadata()?.len();
    ensure!(
        length == entry.size,
        "it arrived with {length} bytes instead of {}",
        entry.size
    );
    // Not readable by others before it has its mode.
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .context("cannot make the file; one that exists is not overwritten")?;
    written.0.push(path.to_owned());
    let xxh3 = copy(&memfd, &file, entry.size, bar)?;
    ensure!(
        xxh3 == entry.xxh3,
        "it arrived damaged: its checksum is {xxh3}, and was {}",
        entry.xxh3
    );
    file.set_permissions(fs::Permissions::from_mode(entry.mode & 0o7777))?;
    file.sync_all()?;
    Ok(())
}

pub fn finish(report: &Report, name: &str) -> Result<()> {
    incoming(name)?.finish()?;
    hold::end(name)?;
    report.tell(
        &format!("session {name} is finished"),
        json!({"session": name, "finished": true}),
    );
    Ok(())
}

pub fn discard(report: &Report, name: &str) -> Result<()> {
    ensure!(
        hold::end(name)?,
        "no process of luoctl keeps a session {name} open; `luoctl list` says who has it"
    );
    report.tell(
        &format!("session {name} is given up"),
        json!({"session": name, "discarded": true}),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_same_and_has_holes() {
        let mut from = tempfile::tempfile().expect("a file");
        let to = tempfile::tempfile().expect("a file");
        let mut bytes = vec![0; 3 * PIECE + 77];
        bytes[5] = 1;
        bytes[3 * PIECE + 70] = 2;
        from.write_all(&bytes).expect("written");
        from.rewind().expect("rewound");
        let bar = ProgressBar::hidden();
        let sum = copy(&from, &to, bytes.len() as u64, &bar).expect("copied");
        let mut back = Vec::new();
        (&to).rewind().expect("rewound");
        (&to).read_to_end(&mut back).expect("read");
        assert!(back == bytes);
        assert_eq!(sum, format!("{:032x}", XxHash3_128::oneshot(&bytes)));
        use std::os::unix::fs::MetadataExt;
        let blocks = to.metadata().expect("metadata").blocks();
        assert!(blocks * 512 < PIECE as u64, "{blocks} blocks");
        from.rewind().expect("rewound");
        assert!(copy(&from, &to, bytes.len() as u64 + 1, &bar).is_err());
        from.rewind().expect("rewound");
        assert!(copy(&from, &to, bytes.len() as u64 - 1, &bar).is_err());
    }
}
