// SPDX-License-Identifier: GPL-2.0
//! Every system call and instruction that needs `unsafe`, each behind a safe function.

mod arena;

pub use arena::{Arena, At};

use anyhow::{Context, Result};
use rustix::mm::{mmap, munmap, Advice, MapFlags, ProtFlags};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::AtomicU64;

pub const PAGE: usize = 4096;

/// The time stamp counter. It runs on through a kexec; under QEMU's `-icount` it counts
/// instructions.
pub fn tsc() -> u64 {
    // SAFETY: reads a register; every x86-64 CPU has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// A shared, writable mapping of a file, seen as 64-bit words.
pub struct Mapping {
    address: *mut libc::c_void,
    bytes: usize,
}

/// What the kernel is asked to do with pages, at once.
pub enum Advise {
    PageOut,
    /// Makes huge pages of them.
    Collapse,
}

impl Mapping {
    pub fn new(file: impl AsFd, bytes: usize) -> Result<Self> {
        // SAFETY: the kernel chooses the address; nothing existing is replaced.
        let address = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )
        }
        .with_context(|| format!("cannot map {bytes} bytes"))?;
        Ok(Self { address, bytes })
    }

    /// Faults every page in for writing.
    pub fn populate(&self) -> Result<()> {
        // SAFETY: the range is this mapping's own; the advice changes no content.
        unsafe { rustix::mm::madvise(self.address, self.bytes, Advice::LinuxPopulateWrite) }
            .context("cannot populate the mapping; the guest may have too little memory")
    }

    pub fn address(&self) -> usize {
        self.address as usize
    }

    pub fn words(&self) -> &[u64] {
        // SAFETY: mapped readable for as long as self lives, page aligned; no other thread of this
        // process writes to it.
        unsafe { std::slice::from_raw_parts(self.address.cast(), self.bytes / 8) }
    }

    pub fn words_mut(&mut self) -> &mut [u64] {
        // SAFETY: as in words(), and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.address.cast(), self.bytes / 8) }
    }

    /// The words, for several threads at a time.
    pub fn atomic_words(&self) -> &[AtomicU64] {
        // SAFETY: mapped readable and writable for as long as self lives, page aligned; whoever
        // shares it uses atomics too.
        unsafe { std::slice::from_raw_parts(self.address.cast(), self.bytes / 8) }
    }

    /// Gives advice on some of its pages that changes no content.
    pub fn advise(&self, first: usize, pages: usize, advice: Advise) -> std::io::Result<()> {
        assert!((first + pages) * PAGE <= self.bytes);
        let advice = match advice {
            Advise::PageOut => libc::MADV_PAGEOUT,
            Advise::Collapse => 25,
        };
        // SAFETY: the pages are this mapping's own.
        let result = unsafe {
            let at = self.address.byte_add(first * PAGE);
            libc::madvise(at, pages * PAGE, advice)
        };
        os_result(result.into()).map(|_| ())
    }

    /// Binds the pages of this mapping that are still to come to one NUMA node.
    pub fn bind_to_node(&self, node: u32) -> Result<()> {
        const MPOL_BIND: libc::c_int = 2;
        let mask: u64 = 1 << node;
        // SAFETY: the range is this mapping's own and the mask outlives the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.address,
                self.bytes,
                MPOL_BIND,
                &mask,
                64 + 1,
                0,
            )
        };
        os_result(result).map(|_| ()).context("mbind failed")
    }
}

// SAFETY: the mapping belongs to the value, whatever thread has it.
unsafe impl Send for Mapping {}
// SAFETY: through a shared reference it is only read, or accessed with atomics.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what new() mapped; no slice of it outlives self.
        let _ = unsafe { munmap(self.address, self.bytes) };
    }
}

/// An ioctl without an argument whose result is a new descriptor.
pub fn ioctl_for_fd(file: &File, number: libc::c_ulong) -> std::io::Result<File> {
    // SAFETY: the ioctl takes no argument.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), number, 0) };
    os_result(result.into())?;
    // SAFETY: the descriptor is new; nothing else owns it.
    Ok(unsafe { File::from_raw_fd(result) })
}

pub const KEXEC_FILE_UNLOAD: u64 = 1;
pub const KEXEC_FILE_ON_CRASH: u64 = 2;

/// Loads the kernel that reboot(RB_KEXEC), or a crash, goes to.
pub fn kexec_file_load(
    kernel: &File,
    initrd: &File,
    cmdline: &str,
    flags: u64,
) -> std::io::Result<()> {
    let cmdline = CString::new(cmdline)?;
    let bytes = cmdline.as_bytes_with_nul();
    // SAFETY: both descriptors are open and the command line outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initrd.as_raw_fd(),
            bytes.len(),
            bytes.as_ptr(),
            flags,
        )
    };
    os_result(result).map(|_| ())
}

/// Loads a page of zeros by the old call, which hands nothing over. It must not be booted.
pub fn kexec_load() -> std::io::Result<()> {
    let page = [0u8; PAGE];
    // Buffer, its bytes, address, bytes there: struct kexec_segment. The address is in any
    // machine's memory.
    let segment: [usize; 4] = [page.as_ptr().addr(), PAGE, 512 << 20, PAGE];
    // SAFETY: the kernel reads one segment and its page, both of which outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_kexec_load, 512usize << 20, 1, segment.as_ptr(), 0) };
    os_result(result).map(|_| ())
}

/// The numbers below `end` that are open descriptors. Needs no descriptor itself.
pub fn descriptors(end: i32) -> Vec<i32> {
    // SAFETY: F_GETFD only asks; a number that is no descriptor gives EBADF.
    let open = |fd: &i32| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0;
    (0..end).filter(open).collect()
}

/// A descriptor whose number came in an ioctl's raw argument.
pub fn own(fd: i32) -> OwnedFd {
    // SAFETY: the scenarios call this once for what a successful ioctl put into its argument;
    // nothing else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn os_result(result: libc::c_long) -> std::io::Result<libc::c_long> {
    if result < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Swaps to a device that has a swap header.
pub fn swapon(device: &str) -> std::io::Result<()> {
    let device = CString::new(device)?;
    // SAFETY: the string outlives the call.
    os_result(unsafe { libc::swapon(device.as_ptr(), 0) }.into()).map(|_| ())
}

/// Asks the kernel to swap a file's pages out: through a private mapping, so that a sealed file
/// will do, and as often as it takes for pages that have just been used.
pub fn page_out(file: &File, bytes: usize) -> Result<()> {
    // SAFETY: the kernel chooses the address; nothing existing is replaced.
    let address = unsafe {
        mmap(
            std::ptr::null_mut(),
            bytes,
            ProtFlags::READ,
            MapFlags::SHARED.union(MapFlags::POPULATE),
            file,
            0,
        )
    }
    .with_context(|| format!("cannot map {bytes} bytes for reading"))?;
    for _ in 0..3 {
        // SAFETY: the range is the mapping made above; the advice changes no content.
        let result = unsafe { libc::madvise(address, bytes, libc::MADV_PAGEOUT) };
        os_result(result.into()).context("MADV_PAGEOUT failed")?;
    }
    // SAFETY: unmaps what was mapped above.
    unsafe { munmap(address, bytes) }.context("cannot unmap")
}

/// Has the kernel believe that a page of a file is bad memory.
pub fn poison(file: &File, page: usize) -> std::io::Result<()> {
    extern "C" fn ignore(_: libc::c_int) {}
    let mapping = Mapping::new(file, (page + 1) * PAGE).map_err(std::io::Error::other)?;
    mapping.populate().map_err(std::io::Error::other)?;
    // SAFETY: the handler does nothing. The kernel tells whoever has the page mapped, and that must
    // not end this process.
    unsafe { libc::signal(libc::SIGBUS, ignore as *const () as libc::sighandler_t) };
    // SAFETY: the page is of the mapping, which nobody looks into any more.
    let result = unsafe {
        let at = mapping.address.byte_add(page * PAGE);
        libc::madvise(at, PAGE, libc::MADV_HWPOISON)
    };
    os_result(result.into()).map(|_| ())
}
