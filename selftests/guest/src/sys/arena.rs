// SPDX-License-Identifier: GPL-2.0
//! Memory for arguments of system calls, right and wrong ones: two pages that can be made
//! read-only, and one behind that is not there.

use super::PAGE;
use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::mm::{mmap_anonymous, mprotect, munmap, MapFlags, MprotectFlags, ProtFlags};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Where an argument is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// That many bytes into the arena; it may reach past the end.
    Offset(usize),
    /// There, and the memory cannot be written to during the call.
    ReadOnly(usize),
    Null,
    /// In the page that is not there.
    Behind,
    /// In the kernel's half.
    Kernel,
    /// The last bytes of the address space.
    Top,
}

pub struct Arena(*mut libc::c_void);

impl Arena {
    pub const BYTES: usize = 2 * PAGE;

    pub fn new() -> Result<Self> {
        let all = Self::BYTES + PAGE;
        // SAFETY: the kernel chooses the address; nothing existing is replaced.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                all,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }
        .context("cannot map memory for arguments")?;
        let arena = Self(base);
        // SAFETY: the last of the pages mapped above; no reference to it is ever made.
        unsafe { mprotect(base.byte_add(Self::BYTES), PAGE, MprotectFlags::empty()) }
            .context("cannot take a page away")?;
        Ok(arena)
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped readable for as long as self lives; only ioctl(), which borrows self
        // exclusively, lets the kernel write here.
        unsafe { std::slice::from_raw_parts(self.0.cast(), Self::BYTES) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in bytes(); writable but for the time of ioctl(), and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.cast(), Self::BYTES) }
    }

    /// An ioctl, any at all, with an argument at a place, any at all.
    pub fn ioctl(&mut self, on: BorrowedFd<'_>, number: u32, at: At) -> Result<(), Errno> {
        let address = match at {
            At::Offset(offset) | At::ReadOnly(offset) => {
                self.0.addr() + offset.min(Self::BYTES + PAGE)
            }
            At::Null => 0,
            At::Behind => self.0.addr() + Self::BYTES,
            At::Kernel => 0xffff_8880_0000_0000,
            At::Top => usize::MAX - 3,
        };
        let read_only = matches!(at, At::ReadOnly(_));
        if read_only {
            self.protect(MprotectFlags::READ)?;
        }
        // SAFETY: no more than a page is written from the address on, and up to a page from there
        // nothing is mapped that is not the arena's own and borrowed here exclusively.
        let result = unsafe {
            libc::syscall(
                libc::SYS_ioctl,
                on.as_raw_fd(),
                libc::c_ulong::from(number),
                address,
            )
        };
        let result = super::os_result(result)
            .map(drop)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::NOTRECOVERABLE));
        if read_only {
            self.protect(MprotectFlags::READ | MprotectFlags::WRITE)?;
        }
        result
    }

    fn protect(&mut self, access: MprotectFlags) -> Result<(), Errno> {
        // SAFETY: the arena's own pages, borrowed exclusively, and made writable again before the
        // borrow ends.
        unsafe { mprotect(self.0, Self::BYTES, access) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what new() mapped; no slice of it outlives self.
        let _ = unsafe { munmap(self.0, Self::BYTES + PAGE) };
    }
}
