// SPDX-License-Identifier: GPL-2.0
//! What a preserved memfd refuses, what cannot be preserved, and that giving up leaves no trace.

use super::{cases, errno};
use crate::scenario::luo_is_ours;
use crate::{event, formats, machine, sys};
use anyhow::{bail, Result};
use liveupdate_uapi::Device;
use rustix::fs::{fallocate, ftruncate, memfd_create, FallocateFlags, MemfdFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);
const BYTES: u64 = 1 << 20;

/// What any machine can be asked, other programs running on it; some of it only ours can.
pub fn harmless(device: &Device) -> Result<()> {
    give_up(device)?;
    one_owner(device)?;
    if luo_is_ours() {
        read_only(device)?;
        too_large(device)?;
    }
    Ok(())
}

pub fn check(device: &Device) -> Result<()> {
    let free = machine::free_bytes()?;
    harmless(device)?;
    bad_memory(device)?;
    let lost = free.saturating_sub(machine::free_bytes()?);
    event::check(
        "giving up leaves no memory behind",
        lost < 2 << 20,
        format!("{} KiB are gone", lost >> 10),
    );
    Ok(())
}

/// The results of everything that would change size or holes: truncate either way, punch, allocate,
/// write behind the end.
fn changes(file: &File) -> [Result<(), Errno>; 5] {
    let late = file.write_at(b"x", BYTES);
    let late = late
        .map(|_| ())
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO));
    [
        ftruncate(file, BYTES / 2),
        ftruncate(file, BYTES),
        fallocate(file, PUNCH, 0, 4096),
        fallocate(file, FallocateFlags::empty(), 0, BYTES + 4096),
        late,
    ]
}

fn frozen(file: &File) -> bool {
    // Setting the size it has is allowed.
    let [shrink, same, punch, allocate, late] = changes(file);
    [shrink, punch, allocate, late] == [Err(Errno::PERM); 4] && same.is_ok()
}

fn give_up(device: &Device) -> Result<()> {
    let file = cases::filled(1, BYTES)?;
    let session = device.create_session("given-up")?;
    session.preserve(&file, 0)?;
    event::check(
        "size and holes are frozen once preserved",
        frozen(&file),
        "",
    );
    event::check(
        "a preserved file can be written to",
        file.write_at(b"x", 5).is_ok(),
        "",
    );
    drop(session);
    event::check(
        "closing the session lets size and holes change again",
        changes(&file).iter().all(Result::is_ok),
        "",
    );
    Ok(())
}

fn one_owner(device: &Device) -> Result<()> {
    let file = cases::filled(1, BYTES)?;
    let again = File::options()
        .read(true)
        .write(true)
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let session = device.create_session("owner")?;
    session.preserve(&file, 0)?;
    let other = device.create_session("second")?;
    let results = [
        session.preserve(&file, 1),
        session.preserve(&again, 2),
        other.preserve(&again, 0),
    ];
    let numbers: Vec<i32> = results.iter().map(errno).collect();
    event::check(
        "a memfd has one owner, whatever descriptor it is named by",
        numbers == [libc::EBUSY; 3],
        format!("errno {numbers:?}"),
    );
    drop(other);
    event::check("and it stays frozen for that one", frozen(&file), "");
    Ok(())
}

/// It would come back writable. mainline gives it back so.
fn read_only(device: &Device) -> Result<()> {
    let file = cases::filled(1, 4096)?;
    let reader = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let session = device.create_session("reader")?;
    let refused = errno(&session.preserve(&reader, 0));
    event::check(
        "a descriptor that may not write is not preserved as one that may",
        refused == libc::EPERM && ftruncate(&file, 1).is_ok(),
        format!("errno {refused}"),
    );
    Ok(())
}

/// Its holes would take all memory. As they are, they take none; where they must be filled, nobody
/// is killed for it.
fn too_large(device: &Device) -> Result<()> {
    let file = File::from(memfd_create("large", MemfdFlags::CLOEXEC)?);
    let (expected, what) = match formats::has("memfd", 3) {
        true => (0, "preserved as it is"),
        false => (libc::ENOMEM, "refused"),
    };
    for bytes in [1u64 << 40, i64::MAX as u64] {
        ftruncate(&file, bytes)?;
        let session = device.create_session("large")?;
        let errno = errno(&session.preserve(&file, 0));
        drop(session);
        event::check(
            &format!("a file with holes of {bytes} bytes is {what}"),
            errno == expected && ftruncate(&file, 0).is_ok(),
            format!("errno {errno}"),
        );
    }
    Ok(())
}

fn bad_memory(device: &Device) -> Result<()> {
    let file = cases::filled(1, BYTES)?;
    if let Err(error) = sys::poison(&file, 17) {
        bail!("cannot make a page of a memfd bad: {error}");
    }
    let session = device.create_session("bad")?;
    let refused = errno(&session.preserve(&file, 0));
    event::check(
        "a file with bad memory is refused",
        refused == libc::EHWPOISON && ftruncate(&file, 4096).is_ok(),
        format!("errno {refused}"),
    );
    Ok(())
}
