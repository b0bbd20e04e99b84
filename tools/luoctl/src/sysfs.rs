// SPDX-License-Identifier: GPL-2.0
//! What the kernel shows of live update: `/sys/kernel/liveupdate`, debugfs, and links in /proc.

use crate::ending::MayNot;
use serde::Serialize;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;

const PLACE: &str = "/sys/kernel/liveupdate";
/// Since Linux 7.4 the areas have another name.
const SCRATCH: [&str; 2] = [
    "/sys/kernel/debug/kho/out/scratch_len",
    "/sys/kernel/debug/kho/out/bootmem_len",
];
/// What the link of a session's descriptor begins with.
const LINK: &[u8] = b"anon_inode:[luo_session] ";

/// A file below [`PLACE`], without the end of its line. Mainline's kernel has none.
pub fn value(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("{PLACE}/{name}")).ok()?;
    Some(text.trim_end_matches('\n').to_owned())
}

/// Whether a kernel is loaded that kexec goes to.
pub fn kexec_loaded() -> bool {
    fs::read_to_string("/sys/kernel/kexec_loaded").is_ok_and(|text| text.trim() == "1")
}

/// Sizes of the scratch areas, if the kernel shows them.
pub fn scratch() -> Option<Vec<u64>> {
    let text = SCRATCH
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())?;
    let number = |line: &str| {
        let line = line.trim();
        u64::from_str_radix(line.strip_prefix("0x").unwrap_or(line), 16).ok()
    };
    text.lines().map(number).collect()
}

/// A session, as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// `incoming` or `outgoing`; not known where the kernel does not list sessions.
    pub side: Option<String>,
    /// As in Documentation/ABI/testing/sysfs-kernel-liveupdate.
    pub state: String,
    /// Files in it.
    pub files: Option<u64>,
    /// Those of them that have been retrieved.
    pub retrieved: Option<u64>,
    /// What they hold.
    pub bytes: Option<u64>,
    /// Escaped as in C.
    pub name: String,
    /// Processes that have it open.
    pub open_in: Vec<u32>,
}

/// Why there is no live update in the kernel that runs, and what to do about it.
pub fn why_off() -> String {
    let asked = crate::command_line::of_this_kernel();
    let asked = asked.is_ok_and(|line| line.split(' ').any(|word| word == "liveupdate=on"));
    match (value("enabled").is_some(), asked) {
        (false, true) => "this kernel has no live update (built without CONFIG_LIVEUPDATE)",
        (false, false) => {
            "off, or this kernel has none (CONFIG_LIVEUPDATE); kho=on liveupdate=on on the command line turns it on"
        }
        (true, true) => "off, although the command line has liveupdate=on; the kernel's log says why",
        (true, false) => "off; kho=on liveupdate=on on the command line turns it on",
    }
    .to_owned()
}

/// All sessions: those the kernel lists, or those that processes have open.
///
/// # Errors
///
/// This user may not look at all of them.
pub fn sessions() -> Result<Vec<Listed>, MayNot> {
    const ONLY_ROOT: MayNot = MayNot("only root may look at the sessions; run luoctl as root");
    let path = format!("{PLACE}/sessions");
    if let Err(error) = fs::File::open(path) {
        if error.kind() == ErrorKind::PermissionDenied {
            return Err(ONLY_ROOT);
        }
    }
    let (open, all) = look();
    if value("sessions").is_none() && !all {
        return Err(ONLY_ROOT);
    }
    let who = |name: &str| -> Vec<u32> {
        let these = open.iter().filter(|(other, _, _)| other == name);
        let mut pids: Vec<u32> = these.map(|(_, pid, _)| *pid).collect();
        pids.dedup();
        pids
    };
    if let Some(text) = value("sessions") {
        let mut all: Vec<Listed> = text.lines().filter_map(parse).collect();
        for session in &mut all {
            if session.state == "open" {
                session.open_in = who(&session.name);
            }
        }
        return Ok(all);
    }
    let mut names: Vec<&String> = open.iter().map(|(name, _, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    let listed = |name: &String| Listed {
        side: None,
        state: "open".into(),
        files: None,
        retrieved: None,
        bytes: None,
        name: name.clone(),
        open_in: who(name),
    };
    Ok(names.into_iter().map(listed).collect())
}

/// `SIDE STATE FILES RETRIEVED BYTES NAME`
fn parse(line: &str) -> Option<Listed> {
    let mut fields = line.splitn(6, ' ');
    Some(Listed {
        side: Some(fields.next()?.to_owned()),
        state: fields.next()?.to_owned(),
        files: Some(fields.next()?.parse().ok()?),
        retrieved: Some(fields.next()?.parse().ok()?),
        bytes: Some(fields.next()?.parse().ok()?),
        name: fields.next()?.to_owned(),
        open_in: Vec::new(),
    })
}

/// Sessions that processes have open, as far as this user may see: name, process, descriptor.
pub fn open_sessions() -> Vec<(String, u32, i32)> {
    look().0
}

/// The same, and whether all processes could be looked at.
fn look() -> (Vec<(String, u32, i32)>, bool) {
    let mut found = Vec::new();
    let mut all = true;
    let Ok(processes) = fs::read_dir("/proc") else {
        return (found, false);
    };
    for process in processes.flatten() {
        let pid = process.file_name().to_string_lossy().parse::<u32>();
        let Ok(pid) = pid else {
            continue;
        };
        let fds = match fs::read_dir(process.path().join("fd")) {
            Ok(fds) => fds,
            Err(error) => {
                all &= error.kind() != ErrorKind::PermissionDenied;
                continue;
            }
        };
        for fd in fds.flatten() {
            let Ok(link) = fs::read_link(fd.path()) else {
                continue;
            };
            let number = fd.file_name().to_string_lossy().parse();
            let name = link.as_os_str().as_bytes().strip_prefix(LINK);
            if let (Some(name), Ok(number)) = (name, number) {
                found.push((name.escape_ascii().to_string(), pid, number));
            }
        }
    }
    (found, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_read() {
        let read = parse("incoming waiting 3 0 4096 a name with spaces").expect("a session");
        assert_eq!(read.side.as_deref(), Some("incoming"));
        assert_eq!(read.files, Some(3));
        assert_eq!(read.name, "a name with spaces");
        assert_eq!(parse("incoming waiting x 0 0 a"), None);
        assert_eq!(parse(""), None);
    }
}
