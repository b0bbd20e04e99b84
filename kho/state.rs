// SPDX-License-Identifier: GPL-2.0

//! The state of this kernel's KHO, and the locks around it: one source for both builds.
//!
//! Lock order: `HANDOVER` before `INCOMING`; `OUTGOING` is never held with another.
//! All may sleep: so do all callers of the C API that restores memory.

use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::kho::addr::PhysAddr;
use crate::kho::boot::Handover;
use crate::kho::fdt::Subtree;
use crate::kho::incoming::Incoming;
use crate::kho::metadata::Metadata;
use crate::kho::outgoing::Outgoing;
use crate::kho::scratch::List;
use crate::kho::scratch_args::Sizing;
use crate::kho::subtrees::Subtrees;
use crate::sys::early;
use crate::sys::error::{Result, EINVAL, ENOENT};
use crate::sys::fdt::Blob;
use crate::sys::shared::{kernel_static, shared, SetOnce};

kernel_static! {
    static ENABLED: AtomicBool = AtomicBool::new(cfg!(CONFIG_KEXEC_HANDOVER_ENABLE_DEFAULT));
}

kernel_static! {
    /// Address of the FDT that was handed over; 0 without one that is trusted.
    static HANDED_OVER: AtomicU64 = AtomicU64::new(0);
}

kernel_static! {
    /// The previous kernel's metadata about itself.
    static PREVIOUS: SetOnce<Metadata> = SetOnce::new();
}

kernel_static! {
    /// Whether there was a handover that was refused.
    static REFUSED: AtomicBool = AtomicBool::new(false);
}

kernel_static! {
    /// Whether that was of a version that this kernel does not read.
    static OTHER_VERSION: AtomicBool = AtomicBool::new(false);
}

kernel_static! {
    /// Whether this boot reserved the scratch areas, rather than taking them over.
    static SCRATCH_RESERVED: AtomicBool = AtomicBool::new(false);
}

kernel_static! {
    /// Bytes this kernel reserved for itself in early boot.
    static EARLY_BYTES: AtomicU64 = AtomicU64::new(0);
}

kernel_static! {
    /// `kho_scratch=` as parsed: whether sizes, then the percentage or three sizes.
    static SIZING: (AtomicBool, [AtomicU64; 3]) = (
        AtomicBool::new(false),
        [
            AtomicU64::new(u64::MAX),
            AtomicU64::new(0),
            AtomicU64::new(0),
        ],
    );
}

kernel_static! {
    /// Which blobs of the handover are available.
    pub(crate) static SUBTREES: SetOnce<Subtrees> = SetOnce::new();
}

kernel_static! {
    /// Scratch areas of this machine.
    pub(crate) static SCRATCH: List = List::new();
}

kernel_static! {
    /// Who is told of the subtrees that will be handed over.
    static WATCHER: SetOnce<&'static dyn Watcher> = SetOnce::new();
}

shared! {
    /// Makes the locks usable.
    init_locks:
    /// What this kernel hands over; none while KHO is off.
    pub(crate) static OUTGOING: Option<Outgoing> = "kho_outgoing";
    /// What was handed to this kernel.
    pub(crate) static INCOMING: Option<Incoming> = "kho_incoming";
    /// A handover on its way to be [`INCOMING`].
    pub(crate) static HANDOVER: Option<Handover> = "kho_handover";
}

/// Is told of each subtree that will be handed over, as debugfs is.
pub(crate) trait Watcher: Sync {
    /// A blob has been named.
    fn added(&self, name: &CStr, at: PhysAddr, size: usize);

    /// A blob is about to be freed.
    fn removed(&self, at: PhysAddr);
}

/// Has `watcher` told of subtrees from now on; the first one stays.
#[cfg(any(CONFIG_KEXEC_HANDOVER_DEBUGFS, not(kernel)))]
pub(crate) fn watch(watcher: &'static dyn Watcher) {
    WATCHER.populate(watcher);
}

/// Runs `f` on the outgoing record; `EINVAL` when there is none, as with KHO off.
pub(crate) fn outgoing<T>(f: impl FnOnce(&mut Outgoing) -> Result<T>) -> Result<T> {
    f(OUTGOING.lock().as_mut().ok_or(EINVAL)?)
}

/// Runs `f` on what was handed over, if anything was.
pub(crate) fn incoming<T>(f: impl FnOnce(&mut Incoming) -> Option<T>) -> Option<T> {
    f(INCOMING.lock().as_mut()?)
}

/// Names a blob of `size` bytes in the root FDT.
///
/// # Errors
///
/// [`EINVAL`] with KHO off, and those of [`Outgoing::add_subtree`].
pub(crate) fn add_subtree(name: &CStr, at: PhysAddr, size: usize) -> Result {
    outgoing(|out| out.add_subtree(name, at, size as u64))?;
    if let Some(watcher) = WATCHER.as_ref() {
        watcher.added(name, at, size);
    }
    Ok(())
}

/// Undoes [`add_subtree`], unless the machine is about to jump.
pub(crate) fn remove_subtree(at: PhysAddr) {
    // The watcher first: the caller frees the blob as soon as this returns.
    if let Some(watcher) = WATCHER.as_ref() {
        watcher.removed(at);
    }
    // Right before the jump it stays, and what was preserved with it.
    let _ = outgoing(|out| out.remove_subtree(at));
}

/// Gives a simulated kernel its records.
#[cfg(not(kernel))]
pub(crate) fn install(out: Outgoing, incoming: Option<Incoming>) {
    *OUTGOING.lock() = Some(out);
    *INCOMING.lock() = incoming;
}

/// Undoes [`install`].
#[cfg(not(kernel))]
pub(crate) fn take() -> (Option<Outgoing>, Option<Incoming>) {
    let out = OUTGOING.lock().take();
    (out, INCOMING.lock().take())
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

/// There was a handover, of another version.
pub(crate) fn refuse_version() {
    OTHER_VERSION.store(true, Ordering::Relaxed);
    refuse();
}

/// There was a handover, and it is not trusted.
pub(crate) fn refuse() {
    HANDED_OVER.store(0, Ordering::Release);
    REFUSED.store(true, Ordering::Relaxed);
}

/// Whether there was a handover that is not trusted.
#[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
pub(crate) fn refused() -> bool {
    REFUSED.load(Ordering::Relaxed)
}

/// Whether there was one that was refused for its version.
#[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
pub(crate) fn refused_version() -> bool {
    OTHER_VERSION.load(Ordering::Relaxed)
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
    let blob = Blob::new(early::handed_over(handed_over()?));
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
#[cfg(any(CONFIG_LIVEUPDATE, not(kernel)))]
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
