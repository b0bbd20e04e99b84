// SPDX-License-Identifier: GPL-2.0
//! kexec_file_load(2), which no crate of ours has.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

const UNLOAD: libc::c_ulong = 1;
const NO_INITRAMFS: libc::c_ulong = 4;

/// Loads the kernel that reboot(RB_KEXEC) goes to.
pub fn kexec_load(kernel: &File, initrd: Option<&File>, cmdline: &str) -> io::Result<()> {
    let cmdline = CString::new(cmdline)?;
    let bytes = cmdline.as_bytes_with_nul();
    let (initrd, flags) = match initrd {
        Some(initrd) => (initrd.as_raw_fd(), 0),
        None => (-1, NO_INITRAMFS),
    };
    // SAFETY: the descriptors are open, and the command line outlives the call and is as long as is
    // said.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initrd,
            bytes.len(),
            bytes.as_ptr(),
            flags,
        )
    };
    done(result)
}

/// Forgets it.
pub fn kexec_unload() -> io::Result<()> {
    let none: *const libc::c_char = std::ptr::null();
    // SAFETY: with this flag the other arguments are not looked at.
    let result = unsafe { libc::syscall(libc::SYS_kexec_file_load, -1, -1, 0, none, UNLOAD) };
    done(result)
}

fn done(result: libc::c_long) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
