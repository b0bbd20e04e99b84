// SPDX-License-Identifier: GPL-2.0

//! Boot: the calls from architecture, mm and initcall code, in the order they come.

use kernel::prelude::*;

use crate::kho::addr::{Order, PhysAddr};
use crate::kho::boot::{forget_header, judge_header, Handover, Refusal};
use crate::kho::fdt::Unusable;
use crate::kho::metadata::{self, Metadata};
use crate::kho::outgoing::Outgoing;
use crate::kho::scratch_args::Sizing;
use crate::kho::state;
use crate::kho::tree::NodeStore;
use crate::sys::pages::BuddyNodes;
use crate::sys::Where;
use crate::sys::{early, glue, Frame};

/// `kho=`.
#[no_mangle]
extern "C" fn lu_parse_enable(on: bool) -> c_int {
    state::set_enabled(on);
    0
}

/// `kho_scratch=`.
///
/// # Safety
///
/// `arg` is a C string.
#[no_mangle]
unsafe extern "C" fn lu_parse_scratch(arg: *const c_char) -> c_int {
    // SAFETY: By the caller's promise.
    let arg = unsafe { CStr::from_char_ptr(arg) };
    match Sizing::parse(arg.to_bytes()) {
        Ok(sizing) => {
            state::set_sizing(sizing);
            match sizing {
                Sizing::Percent(percent) => pr_notice!("scratch: {percent}% of early memory\n"),
                Sizing::Bytes {
                    low,
                    global,
                    per_node,
                } => pr_notice!(
                    "scratch: {} MiB low, {} MiB anywhere, {} MiB a node\n",
                    low >> 20,
                    global >> 20,
                    per_node >> 20
                ),
            }
            0
        }
        Err(err) => {
            pr_err!("kho_scratch= wants a percentage (200%) or LOW,GLOBAL,PERNODE (16M,512M,64M); ignored\n");
            err.to_errno()
        }
    }
}

/// The architecture found a handover; memblock has no memory yet.
#[export]
extern "C" fn kho_populate(fdt_phys: u64, fdt_len: u64, scratch_phys: u64, scratch_len: u64) {
    let fdt = PhysAddr::new(fdt_phys);
    let list = PhysAddr::new(scratch_phys);
    match judge_header(fdt, fdt_len, list, scratch_len, &state::SCRATCH) {
        Ok(()) => {
            state::set_handed_over(fdt);
            pr_info!("a handover arrived at {fdt_phys:#x}\n");
        }
        Err(why) => {
            pr_err!("handover at {fdt_phys:#x} refused, booting without it: {why}\n");
            match why {
                Refusal::Fdt(Unusable::Incompatible) => state::refuse_version(),
                _ => state::refuse(),
            }
        }
    }
}

/// The command line is known, and the firmware's map is as it has it; memblock gets it next. An
/// option that cuts memory off may have cut off scratch, which is not mapped then.
#[no_mangle]
extern "C" fn lu_memory_known() {
    let Some(fdt) = state::handed_over() else {
        return;
    };
    let is_gone = |(at, size): &(PhysAddr, u64)| !early::firmware_says_ram(*at, *size);
    let scratch = state::SCRATCH.areas().filter(|area| area.size != 0);
    let gone = scratch.map(|area| (area.start, area.size)).find(is_gone);
    let page = Some((fdt, kernel::page::PAGE_SIZE as u64));
    let Some((at, size)) = gone.or(page.filter(is_gone)) else {
        return;
    };
    pr_err!(
        "handover at {:#x} refused, booting without it: {size} bytes at {:#x} that it needs are no memory of this kernel: take mem= and memmap= off its command line\n",
        fdt.raw(),
        at.raw()
    );
    state::refuse();
    for area in state::SCRATCH.areas() {
        early::disown(area.start, area.size);
    }
    forget_header(&state::SCRATCH);
}

/// All memory is known and mapped; memblock allocates from scratch only, if there is a handover.
#[export]
extern "C" fn kho_memory_init_early() {
    // SAFETY: Called once, and before anything that takes a lock of ours: nothing is preserved or
    // restored before memory is set up.
    unsafe { state::init_locks() };
    let Some(at) = state::handed_over() else {
        return;
    };
    let judged = state::incoming_fdt()
        .ok_or(Refusal::FdtChanged)
        .and_then(|fdt| Handover::judge_tree(&fdt, at, &state::SCRATCH));
    match judged {
        Ok((handover, subtrees)) => {
            state::SUBTREES.populate(subtrees);
            *state::HANDOVER.lock() = Some(handover);
        }
        Err(why) => {
            pr_err!(
                "handover at {:#x} refused, booting without it: {why}\n",
                at.raw()
            );
            state::refuse();
            forget_header(&state::SCRATCH);
        }
    }
}

/// Nodes and zones are known, and memory is counted; nobody has allocated yet who does not keep to
/// scratch.
#[no_mangle]
extern "C" fn lu_memory_reserve() {
    let mut handover = state::HANDOVER.lock();
    let Some(judged) = handover.as_mut() else {
        return;
    };
    if let Err(why) = judged.reserve() {
        pr_err!("handover refused, booting without it: {why}\n");
        *handover = None;
        state::refuse();
        forget_header(&state::SCRATCH);
    }
}

/// The page allocator is about to take over from memblock.
#[export]
extern "C" fn kho_memory_init() {
    // SAFETY: Reads a variable.
    if unsafe { glue::lu_is_kdump() } {
        state::set_enabled(false);
        pr_info!("off: this is a crash kernel\n");
        return;
    }
    state::set_early_bytes(early::kernel_bytes(Where::Anywhere));
    let mut handover = state::HANDOVER.lock();
    if let Some(handover) = handover.as_mut() {
        *state::INCOMING.lock() = Some(handover.arrive());
    } else if state::enabled() {
        match state::SCRATCH.reserve(state::sizing()) {
            Ok(()) => state::set_scratch_reserved(),
            Err(_) => {
                pr_warn!("off: there is no room for scratch\n");
                state::set_enabled(false);
            }
        }
    }
}

/// Deferred struct pages are done with.
#[no_mangle]
extern "C" fn lu_settle() -> c_int {
    let handover = state::HANDOVER.lock().take();
    if let Some(mut handover) = handover {
        handover.free_gaps();
        if let Some(incoming) = state::INCOMING.lock().as_mut() {
            incoming.settle();
        }
    }
    0
}

/// Allocators and file systems are there: sets up what will be handed over.
#[no_mangle]
extern "C" fn lu_init() -> c_int {
    if let (Some(fdt), Some(subtrees)) = (state::incoming_fdt(), state::SUBTREES.as_ref()) {
        subtrees.report(&fdt);
    }
    if !state::enabled() {
        return 0;
    }
    if let Some(metadata) = incoming_metadata() {
        pr_info!(
            "exec from: {} (count {})\n",
            metadata.release(),
            metadata.count
        );
        state::set_previous(metadata);
    }
    // Of a handover, scratch is ordinary memory already.
    let fresh = state::scratch_reserved();
    if let Err(err) = set_up_outgoing() {
        pr_err!("cannot set up kexec handover: {err:?}\n");
        state::set_enabled(false);
        if fresh {
            for area in state::SCRATCH.areas().filter(|area| area.size != 0) {
                // SAFETY: Reserved on this boot, used by nobody, freed once.
                unsafe { glue::lu_scratch_to_buddy(area.start.raw(), area.size) };
            }
            state::SCRATCH.clear();
        }
        return err.to_errno();
    }
    #[cfg(CONFIG_KEXEC_HANDOVER_DEBUGFS)]
    super::debugfs::init();
    publish_metadata();
    if fresh {
        for area in state::SCRATCH.areas().filter(|area| area.size != 0) {
            // SAFETY: Reserved on this boot in whole pageblocks, used by nobody, freed once.
            unsafe { glue::lu_scratch_to_cma(area.start.raw(), area.size) };
        }
    }
    0
}

/// Apart from [`lu_init`], because of its size: kernel stacks are small.
#[inline(never)]
fn set_up_outgoing() -> Result {
    *state::OUTGOING.lock() = Some(Outgoing::create(&state::SCRATCH)?);
    Ok(())
}

/// What the previous kernel said about itself, if it did.
#[inline(never)]
fn incoming_metadata() -> Option<Metadata> {
    let blob = state::find_subtree(metadata::NAME).ok()?;
    // It was preserved; it is somebody else's by now if another subtree names it too.
    let waits = match state::INCOMING.lock().as_mut() {
        Some(incoming) => incoming.block_at(blob.data.pfn()).is_some(),
        None => false,
    };
    if !waits {
        pr_warn!("kexec-metadata not read: somebody else has it\n");
        return None;
    }
    let page = Frame::at(PhysAddr::new(
        blob.data.raw() & !(kernel::page::PAGE_SIZE as u64 - 1),
    ))?;
    // A page's worth is enough: the record is shorter, and page-aligned in every writer known.
    let mut bytes = [0; metadata::LEN];
    let skip = (blob.data.raw() % kernel::page::PAGE_SIZE as u64) as usize;
    let len = bytes
        .len()
        .min(usize::try_from(blob.size).unwrap_or(usize::MAX));
    for (i, byte) in bytes.iter_mut().enumerate() {
        let at = skip + i;
        *byte = page.word(at / 8).to_ne_bytes()[at % 8];
    }
    Metadata::decode(bytes.get(..len)?)
        .inspect_err(|why| pr_warn!("kexec-metadata not read: {why}\n"))
        .ok()
}

/// Tells the next kernel about this one. Optional: a failure is logged and undone.
#[inline(never)]
fn publish_metadata() {
    // SAFETY: A NUL-terminated string that lives for ever.
    let release = unsafe { CStr::from_char_ptr(glue::lu_release()) };
    let record = Metadata::new(release.to_bytes(), state::count().saturating_add(1)).encode();
    let published = BuddyNodes.alloc().ok_or(ENOMEM).and_then(|page| {
        for (i, chunk) in record.chunks(8).enumerate() {
            let mut word = [0; 8];
            word.iter_mut()
                .zip(chunk)
                .for_each(|(to, from)| *to = *from);
            page.set_word(i, u64::from_ne_bytes(word));
        }
        let pfn = page.phys().pfn();
        let kept = state::outgoing(|out| out.preserve_block(pfn, Order::ZERO)).and_then(|()| {
            state::add_subtree(metadata::NAME, page.phys(), record.len()).inspect_err(|_| {
                let _ = state::outgoing(|out| Ok(out.unpreserve_block(pfn, Order::ZERO)));
            })
        });
        kept.inspect_err(|_| BuddyNodes.free(page))
    });
    if let Err(err) = published {
        pr_warn!("the next kernel will not know this one's release: {err:?}\n");
    }
}

/// Whether KHO is on for this kernel.
#[export]
extern "C" fn kho_is_enabled() -> bool {
    state::enabled()
}

/// Whether this kernel was handed over to, by a handover that is trusted so far.
#[export]
extern "C" fn is_kho_boot() -> bool {
    state::handed_over().is_some()
}

/// Whether `size` bytes from `phys` on touch a scratch area.
#[export]
extern "C" fn kho_scratch_overlap(phys: u64, size: usize) -> bool {
    state::SCRATCH.overlaps(PhysAddr::new(phys), size as u64)
}
