// SPDX-License-Identifier: GPL-2.0

//! The state of this kernel's KHO, and the locks around it.
//!
//! Lock order: `HANDOVER` before `INCOMING`; `OUTGOING` and `DEBUGFS` are never held with another.
//! All may sleep: so do all callers of the C API that restores memory.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kernel::prelude::*;
use kernel::sync::{global_lock, SetOnce};

use crate::kho::addr::PhysAddr;
use crate::kho::boot::Handover;
use crate::kho::fdt::Subtree;
use crate::kho::incoming::Incoming;
use crate::kho::metadata::Metadata;
use crate::kho::outgoing::Outgoing;
use crate::kho::scratch::List;
use crate::kho::scratch_args::Sizing;
use crate::kho::subtrees::Subtrees;
use crate::sys::fdt::Blob;

/// Bytes of the FDT that are looked at: the boot protocol hands over a page.
const FDT_BYTES: usize = kernel::page::PAGE_SIZE;

static ENABLED: AtomicBool = AtomicBool::new(cfg!(CONFIG_KEXEC_HANDOVER_ENABLE_DEFAULT));

/// Address of the FDT that was handed over; 0 without one that is trusted.
static HANDED_OVER: AtomicU64 = AtomicU64::new(0);

/// What the previous kernel said about itself.
static PREVIOUS: SetOnce<Metadata> = SetOnce::new();

/// Whether there was a handover that was refused.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Whether this boot reserved the scratch areas, rather than taking them over.
static SCRATCH_RESERVED: AtomicBool = AtomicBool::new(false);

/// Bytes this kernel reserved for itself in early boot.
static EARLY_BYTES: AtomicU64 = AtomicU64::new(0);

/// `kho_scratch=` as parsed: whether sizes, then the percentage or three sizes.
static SIZING: (AtomicBool, [AtomicU64; 3]) = (
    AtomicBool::new(false),
    [
        AtomicU64::new(u64::MAX),
        AtomicU64::new(0),
        AtomicU64::new(0),
    ],
);

/// Which blobs of the handover can be had.
pub(crate) static SUBTREES: SetOnce<Subtrees> = SetOnce::new();

/// Scratch areas of this machine.
pub(crate) static SCRATCH: List = List::new();

global_lock! {
    // SAFETY: `init_locks` runs before any other code that takes it.
    pub(crate) unsafe(uninit) static OUTGOING: Mutex<Option<Outgoing>> = None;
}

global_lock! {
    // SAFETY: As above.
    pub(crate) unsafe(uninit) static INCOMING: Mutex<Option<Incoming>> = None;
}

global_lock! {
    // SAFETY: As above.
    pub(crate) unsafe(uninit) static HANDOVER: Mutex<Option<Handover>> = None;
}

/// Makes the locks usable.
///
/// # Safety
///
/// Called once, before anything else takes one of them.
pub(crate) unsafe fn init_locks() {
    // SAFETY: By the caller's promise.
    unsafe {
        OUTGOING.init();
        INCOMING.init();
        HANDOVER.init();
        #[cfg(CONFIG_KEXEC_HANDOVER_DEBUGFS)]
        crate::entry::kho::debugfs::DEBUGFS.init();
    }
}

pub(crate) fn enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

pub(crate) fn set_enabled(on: bool) {
    ENABLED.store(on, Ordering::Relaxed);
}

pub(crate) fn sizing() -> Sizing {
    let [a, b, c] = &SIZING.1;
    let a = a.load(Ordering::Relaxed);
    if SIZING.0.load(Ordering::Relaxed) {
        Sizing::Bytes {
            low: a,
            global: b.load(Ordering::Relaxed),
            per_node: c.load(Ordering::Relaxed),
        }
    } else {
        u32::try_from(a).map_or(Sizing::DEFAULT, Sizing::Percent)
    }
}

pub(crate) fn set_sizing(sizing: Sizing) {
    let (bytes, values) = match sizing {
        Sizing::Percent(percent) => (false, [percent.into(), 0, 0]),
        Sizing::Bytes {
            low,
            global,
            per_node,
        } => (true, [low, global, per_node]),
    };
    for (to, from) in SIZING.1.iter().zip(values) {
        to.store(from, Ordering::Relaxed);
    }
    SIZING.0.store(bytes, Ordering::Relaxed);
}

pub(crate) fn set_handed_over(fdt: PhysAddr) {
    HANDED_OVER.store(fdt.raw(), Ordering::Release);
}

/// There was a handover, and it is not trusted.
pub(crate) fn refuse() {
    HANDED_OVER.store(0, Ordering::Release);
    REFUSED.store(true, Ordering::Relaxed);
}

/// Whether there was a handover that is not trusted.
#[cfg(CONFIG_LIVEUPDATE)]
pub(crate) fn refused() -> bool {
    REFUSED.load(Ordering::Relaxed)
}

/// Address of the FDT of a handover that is trusted so far.
pub(crate) fn handed_over() -> Option<PhysAddr> {
    match HANDED_OVER.load(Ordering::Acquire) {
        0 => None,
        fdt => Some(PhysAddr::new(fdt)),
    }
}

/// The FDT of the previous kernel, if its handover is trusted so far. Not before the direct map.
pub(crate) fn incoming_fdt() -> Option<Blob<'static>> {
    let at = handed_over()?;
    // SAFETY: `judge_header` found the FDT to be in RAM; the tree has its page as preserved, so
    // nobody ever gets it to write to.
    let bytes = unsafe {
        let start = super::glue::lu_phys_to_virt(at.raw()).cast::<u8>();
        core::slice::from_raw_parts(start, FDT_BYTES)
    };
    let blob = Blob::new(bytes);
    blob.check().ok()?;
    Some(blob)
}

/// A blob of the previous kernel, if its handover is trusted so far and the blob was preserved.
pub(crate) fn find_subtree(name: &CStr) -> Result<Subtree> {
    let fdt = incoming_fdt().ok_or(ENOENT)?;
    SUBTREES.as_ref().ok_or(ENOENT)?.find(&fdt, name)
}

/// Updates since the last cold boot, as the previous kernel said.
pub(crate) fn count() -> u32 {
    PREVIOUS.as_ref().map_or(0, |previous| previous.count)
}

/// The previous kernel's release; empty if it did not say.
#[cfg(CONFIG_LIVEUPDATE)]
pub(crate) fn previous_release() -> impl Iterator<Item = u8> {
    PREVIOUS
        .as_ref()
        .into_iter()
        .flat_map(Metadata::release_bytes)
}

pub(crate) fn set_previous(metadata: Metadata) {
    PREVIOUS.populate(metadata);
}

pub(crate) fn scratch_reserved() -> bool {
    SCRATCH_RESERVED.load(Ordering::Relaxed)
}

pub(crate) fn set_scratch_reserved() {
    SCRATCH_RESERVED.store(true, Ordering::Relaxed);
}

pub(crate) fn early_bytes() -> u64 {
    EARLY_BYTES.load(Ordering::Relaxed)
}

pub(crate) fn set_early_bytes(bytes: u64) {
    EARLY_BYTES.store(bytes, Ordering::Relaxed);
}
