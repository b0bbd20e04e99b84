// SPDX-License-Identifier: GPL-2.0
//! Files into a session, and out of it in the next kernel.

use crate::manifest::{Entry, Manifest, MAX_BYTES, TOKEN};
use crate::report::{size, Report};
use crate::{attributes, device, hold};
use anyhow::{bail, ensure, Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use liveupdate_uapi::{CreateSessionError, RetrieveSessionError, RetrievedSession, Session};
use rustix::fs::{
    fcntl_add_seals, linkat, memfd_create, open, openat, unlinkat, AtFlags, MemfdFlags, Mode,
    OFlags, SealFlags, CWD,
};
use rustix::io::Errno;
use serde_json::json;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
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
    let session = create(name)?;
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
        let mut entry = Entry {
            token,
            name: file_name,
            size: data.len(),
            xxh3,
            ..Entry::default()
        };
        attributes::read(&file, &mut entry)?;
        entries.push(entry);
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

fn create(name: &str) -> Result<Session> {
    match device::open()?.create_session(name) {
        Err(CreateSessionError::Exists) => bail!(
            "a session {name} goes to the next kernel already; `luoctl discard {name}` gives it up if luoctl made it"
        ),
        other => Ok(other?),
    }
}

/// A file to copy. What it is is known before it is opened: a pipe would wait, and a device may do
/// something.
fn source(path: &Path) -> Result<(String, File)> {
    let shown = path.display();
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let place = open(path, flags, Mode::empty()).with_context(|| format!("cannot open {shown}"))?;
    let place = File::from(place);
    ensure!(
        place.metadata()?.is_file(),
        "{shown} is no regular file; only those can be preserved"
    );
    let link = format!("/proc/self/fd/{}", place.as_raw_fd());
    let real = fs::read_link(&link).unwrap_or_default();
    ensure!(
        !real.as_os_str().as_bytes().starts_with(b"/memfd:"),
        "{shown} is memory of a program that may be writing it: a copy would be torn, and take as much memory again. Have \
         the program take part in the update itself (Documentation/users.rst)"
    );
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(link)
        .with_context(|| format!("cannot open {shown}"))?;
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

/// A session that has arrived; also one that an earlier try has left with a process in the
/// background.
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
    let manifest = match write_all(report, &session, to, owner(name)) {
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

fn write_all(
    report: &Report,
    session: &RetrievedSession,
    to: &Path,
    owner: Option<u32>,
) -> Result<Manifest> {
    let list = session
        .retrieve(TOKEN)
        .context("the session has no list of files; was it made by `luoctl preserve`?")?;
    let mut list = File::from(list);
    list.rewind()?;
    let mut bytes = Vec::new();
    list.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let manifest = Manifest::from_bytes(&bytes)?;
    fs::create_dir_all(to).with_context(|| format!("cannot make the folder {}", to.display()))?;
    // From here on it is this folder, whatever becomes of its name.
    let folder = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = open(to, folder, Mode::empty())
        .with_context(|| format!("cannot open the folder {}", to.display()))?;
    let whole = manifest
        .files
        .iter()
        .fold(0u64, |sum, entry| sum.saturating_add(entry.size));
    let bar = progress(report, whole);
    let mut written = Written {
        folder,
        names: Vec::new(),
    };
    for entry in &manifest.files {
        let path = to.join(&entry.name);
        let memfd = session.retrieve(entry.token);
        let memfd = memfd.with_context(|| entry.name.clone())?;
        let missing = write_one(memfd, entry, owner, &bar, &mut written)
            .with_context(|| path.display().to_string())?;
        if !missing.is_empty() {
            let missing = missing.join(", ");
            report.remark(&format!("{}: without its {missing}", path.display()));
        }
    }
    rustix::fs::fsync(&written.folder).context("cannot write the folder")?;
    bar.finish_and_clear();
    written.names.clear();
    Ok(manifest)
}

/// Whose files a session may have: luod's sessions are made of what their user says.
fn owner(session: &str) -> Option<u32> {
    let rest = session.strip_prefix(luo_client::NAMESPACE)?;
    let uid = rest.split('/').next().unwrap_or_default();
    // What has no number in it is nobody's.
    Some(uid.parse().unwrap_or(u32::MAX)).filter(|uid| *uid != 0)
}

/// Files written by a try that has failed go away again, so that it can be repeated.
struct Written {
    folder: OwnedFd,
    names: Vec<String>,
}

impl Drop for Written {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = unlinkat(&self.folder, name.as_str(), AtFlags::empty());
        }
    }
}

/// Gets its name when it is whole: until then nobody else can open it. What could not be given to
/// it is named.
fn write_one(
    memfd: OwnedFd,
    entry: &Entry,
    owner: Option<u32>,
    bar: &ProgressBar,
    written: &mut Written,
) -> Result<Vec<String>> {
    const NOT: &str = "cannot make the file; one that exists is not overwritten";
    let mut memfd = File::from(memfd);
    memfd.rewind()?;
    let length = memfd.metadata()?.len();
    ensure!(
        length == entry.size,
        "it arrived with {length} bytes instead of {}",
        entry.size
    );
    let (name, own) = (entry.name.as_str(), Mode::from_raw_mode(0o600));
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let unnamed = openat(&written.folder, ".", flags | OFlags::TMPFILE, own);
    let (file, named) = match unnamed {
        Ok(file) => (file, false),
        // Not every file system has that.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
            let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let file = openat(&written.folder, name, flags, own).context(NOT)?;
            written.names.push(entry.name.clone());
            (file, true)
        }
        Err(errno) => return Err(errno).context("cannot make the file"),
    };
    let file = File::from(file);
    let xxh3 = copy(&memfd, &file, entry.size, bar)?;
    ensure!(
        entry.in_place || xxh3 == entry.xxh3,
        "it arrived damaged: its checksum is {xxh3}, and was {}",
        crate::report::plain(&entry.xxh3)
    );
    let missing = attributes::write(&file, entry, owner)?;
    file.sync_all()?;
    if !named {
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(CWD, link, &written.folder, name, AtFlags::SYMLINK_FOLLOW).context(NOT)?;
        written.names.push(entry.name.clone());
    }
    Ok(missing)
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
    use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};

    fn arrived(bytes: &[u8]) -> OwnedFd {
        let mut memfd = File::from(memfd_create("x", MemfdFlags::CLOEXEC).expect("a memfd"));
        memfd.write_all(bytes).expect("written");
        memfd.into()
    }

    fn written(folder: &Path) -> Written {
        let folder = File::open(folder).expect("a folder").into();
        Written {
            folder,
            names: Vec::new(),
        }
    }

    #[test]
    fn a_file_comes_back_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let from = folder.path().join("from");
        fs::write(&from, "text").expect("written");
        let root = rustix::process::geteuid().is_root();
        let number = if root { Some(1000) } else { None };
        std::os::unix::fs::chown(&from, number, number).expect("given away");
        fs::set_permissions(&from, fs::Permissions::from_mode(0o4755)).expect("set");
        let (name, file) = source(&from).expect("a file");
        let mut entry = Entry {
            name,
            size: 4,
            xxh3: format!("{:032x}", XxHash3_128::oneshot(b"text")),
            ..Entry::default()
        };
        attributes::read(&file, &mut entry).expect("read");
        entry.name = "to".into();
        let mut written = written(folder.path());
        let bar = ProgressBar::hidden();
        let missing = write_one(arrived(b"text"), &entry, None, &bar, &mut written);
        assert!(missing.expect("written").is_empty());
        let all = |name: &str| {
            let data = fs::metadata(folder.path().join(name)).expect("metadata");
            let times = (data.mtime(), data.mtime_nsec());
            (data.uid(), data.gid(), data.mode(), data.len(), times)
        };
        assert_eq!(all("from"), all("to"));
        // Neither one that is there, nor where a link leads, is written.
        let dear = folder.path().join("dear");
        fs::write(&dear, "dear").expect("written");
        symlink(&dear, folder.path().join("link")).expect("a link");
        for name in ["dear", "link"] {
            entry.name = name.into();
            write_one(arrived(b"text"), &entry, None, &bar, &mut written).expect_err("there");
        }
        assert_eq!(fs::read_to_string(&dear).expect("read"), "dear");
        entry.name = "damaged".into();
        write_one(arrived(b"tixt"), &entry, None, &bar, &mut written).expect_err("damaged");
        drop(written);
        assert!(!folder.path().join("to").exists() && !folder.path().join("damaged").exists());
        assert!(dear.exists());
    }

    #[test]
    fn a_session_of_luods_has_files_of_its_user_only() {
        assert_eq!(owner("backup"), None);
        assert_eq!(owner("luod/0/cache"), None);
        assert_eq!(owner("luod/1000/cache"), Some(1000));
        assert_eq!(owner("luod/x"), Some(u32::MAX));
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("mkfifo").success());
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        for path in [&pipe, &socket, Path::new("/dev/null"), folder.path()] {
            let error = source(path).expect_err("no file").to_string();
            assert!(error.contains("no regular file"), "{error}");
        }
        let memory = File::from(arrived(b"guest"));
        let link = format!("/proc/self/fd/{}", memory.as_raw_fd());
        let error = source(Path::new(&link)).expect_err("memory").to_string();
        assert!(error.contains("torn"), "{error}");
    }

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
        let blocks = to.metadata().expect("metadata").blocks();
        assert!(blocks * 512 < PIECE as u64, "{blocks} blocks");
        from.rewind().expect("rewound");
        assert!(copy(&from, &to, bytes.len() as u64 + 1, &bar).is_err());
        from.rewind().expect("rewound");
        assert!(copy(&from, &to, bytes.len() as u64 - 1, &bar).is_err());
    }
}
