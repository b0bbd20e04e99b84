// SPDX-License-Identifier: GPL-2.0

//! The C API of block sets: include/linux/kho_block.h. What a block holds is `kho/block.rs`; here
//! is the list of them that the C structures keep.

use core::ffi::c_void;
use core::ptr::{addr_of_mut, null_mut};

use kernel::bindings::{self, kho_block, kho_block_set, kho_block_set_it, list_head};
use kernel::prelude::*;

use super::preserve::{kho_alloc_preserve, kho_unpreserve_free};
use super::restore::kho_restore_free;
use crate::kho::addr::PhysAddr;
use crate::kho::block;
use crate::kho::state;
use crate::sys::Frame;

/// Memory of one block.
const BLOCK_BYTES: usize = kernel::page::PAGE_SIZE;

/// The list entries of a set.
///
/// # Safety
///
/// `set` is initialised and its list does not change but by removal of entries already passed.
unsafe fn blocks(set: *mut kho_block_set) -> impl Iterator<Item = *mut kho_block> {
    // SAFETY: By the caller's promise.
    let head = unsafe { addr_of_mut!((*set).blocks) };
    // SAFETY: As above.
    let mut at = unsafe { (*head).next };
    core::iter::from_fn(move || {
        if at == head {
            return None;
        }
        // `list` is the first member of `kho_block`.
        let block = at.cast::<kho_block>();
        // SAFETY: `at` is an entry of the list; it may be removed once it has been yielded.
        at = unsafe { (*at).next };
        Some(block)
    })
}

const _: () = assert!(core::mem::offset_of!(kho_block, list) == 0);

/// The neighbour of a block, or `None` at the end of the list.
///
/// # Safety
///
/// `set` is initialised and `block` in its list.
unsafe fn neighbour(
    set: *mut kho_block_set,
    block: *mut kho_block,
    next: bool,
) -> Option<*mut kho_block> {
    // SAFETY: By the caller's promise.
    let (head, at) = unsafe {
        let entry = (*block).list;
        let at = if next { entry.next } else { entry.prev };
        (addr_of_mut!((*set).blocks), at)
    };
    (at != head).then_some(at.cast())
}

/// The memory of a block.
///
/// # Safety
///
/// `block` is in the list of a set.
unsafe fn frame(block: *mut kho_block) -> Option<Frame> {
    // SAFETY: By the caller's promise; blocks are whole pages in the direct map.
    unsafe { Frame::from_virt((*block).ser.cast()) }
}

/// Links memory into a set, at its end.
///
/// # Safety
///
/// `set` is initialised.
unsafe fn add(set: *mut kho_block_set, memory: Frame) -> Result {
    // SAFETY: By the caller's promise; the new entry is not reachable before it is whole.
    unsafe {
        if usize::try_from((*set).nblocks).map_or(true, |n| n >= block::MAX_BLOCKS) {
            return Err(ENOSPC);
        }
        let head = addr_of_mut!((*set).blocks);
        let last = (*head).prev;
        let entry = KBox::into_raw(KBox::new(
            kho_block {
                list: list_head {
                    next: head,
                    prev: last,
                },
                ser: memory.as_ptr().cast(),
            },
            GFP_KERNEL,
        )?);
        let before = (last != head).then(|| last.cast::<kho_block>());
        (*last).next = entry.cast();
        (*head).prev = entry.cast();
        (*set).nblocks += 1;
        match before.and_then(|before| frame(before)) {
            Some(before) => block::set_next(before, memory.phys()),
            None => (*set).head_pa = memory.phys().raw(),
        }
    }
    Ok(())
}

/// Unlinks a block and gives its memory back.
///
/// # Safety
///
/// `block` is in the list of `set`.
unsafe fn remove(set: *mut kho_block_set, block: *mut kho_block) {
    // SAFETY: By the caller's promise; the entry was made by `add`.
    unsafe {
        let list_head { next, prev } = (*block).list;
        (*prev).next = next;
        (*next).prev = prev;
        (*set).nblocks -= 1;
        let memory = (*block).ser;
        if (*set).incoming {
            kho_restore_free(memory.cast());
        } else {
            kho_unpreserve_free(memory.cast());
        }
        drop(KBox::from_raw(block));
    }
}

/// Removes the last block, if there is one.
///
/// # Safety
///
/// `set` is initialised.
unsafe fn shrink_one(set: *mut kho_block_set) {
    // SAFETY: By the caller's promise.
    unsafe {
        let head = addr_of_mut!((*set).blocks);
        if (*head).prev == head {
            return;
        }
        remove(set, (*head).prev.cast());
        let last = (*head).prev;
        match (last != head).then(|| frame(last.cast())).flatten() {
            Some(last) => block::set_next(last, PhysAddr::new(0)),
            None => (*set).head_pa = 0,
        }
    }
}

/// Blocks in a set.
///
/// # Safety
///
/// `set` is initialised.
unsafe fn len(set: *const kho_block_set) -> u64 {
    // SAFETY: By the caller's promise.
    u64::try_from(unsafe { (*set).nblocks }).unwrap_or(0)
}

/// # Safety
///
/// `set` may be written and stays where it is.
#[export]
unsafe extern "C" fn kho_block_set_init(set: *mut kho_block_set, entry_size: usize) {
    let count_per_block = block::records_per_block(entry_size);
    kernel::warn_on!(count_per_block == 0);
    // SAFETY: By the caller's promise.
    unsafe {
        let head = addr_of_mut!((*set).blocks);
        set.write(kho_block_set {
            blocks: list_head {
                next: head,
                prev: head,
            },
            entry_size,
            count_per_block,
            ..Default::default()
        });
    }
}

/// # Safety
///
/// `set` is initialised and used by nobody else meanwhile.
#[export]
unsafe extern "C" fn kho_block_set_grow(set: *mut kho_block_set, count: u64) -> c_int {
    // SAFETY: By the caller's promise.
    unsafe {
        if kernel::warn_on!((*set).incoming) {
            return EINVAL.to_errno();
        }
        let before = len(set);
        while count > len(set).saturating_mul((*set).count_per_block) {
            if let Err(err) = grow_one(set) {
                while len(set) > before {
                    shrink_one(set);
                }
                return err.to_errno();
            }
        }
    }
    0
}

/// # Safety
///
/// As for [`kho_block_set_grow`].
unsafe fn grow_one(set: *mut kho_block_set) -> Result {
    let memory = kernel::error::from_err_ptr(kho_alloc_preserve(BLOCK_BYTES))?;
    // SAFETY: By the caller's promise; the memory is a page just allocated, freed if it stays ours.
    unsafe {
        let frame = Frame::from_virt(memory).ok_or(ENOMEM)?;
        add(set, frame).inspect_err(|_| kho_unpreserve_free(memory))
    }
}

/// # Safety
///
/// `set` is initialised and used by nobody else meanwhile.
#[export]
unsafe extern "C" fn kho_block_set_shrink(set: *mut kho_block_set, count: u64) {
    // SAFETY: By the caller's promise.
    unsafe {
        while len(set) > 0 && count <= (len(set) - 1).saturating_mul((*set).count_per_block) {
            shrink_one(set);
        }
    }
}

/// What was handed over is checked as a whole first. If it is wrong, its memory stays as it is, out
/// of use: what is claimed by a broken list may belong to somebody else.
///
/// # Safety
///
/// `set` is initialised, empty, and used by nobody else meanwhile.
#[export]
unsafe extern "C" fn kho_block_set_restore(set: *mut kho_block_set, head_pa: u64) -> c_int {
    // SAFETY: By the caller's promise.
    let per_block = unsafe {
        (*set).incoming = true;
        (*set).count_per_block
    };
    if head_pa == 0 {
        return 0;
    }
    let head = PhysAddr::new(head_pa);
    let checked = match state::INCOMING.lock().as_mut() {
        Some(incoming) => block::check_chain(incoming, head, per_block, |_| Ok(())),
        None => Err(EINVAL),
    };
    if let Err(err) = checked {
        pr_warn!("block set at {head_pa:#x} is corrupted ({err:?})\n");
        return EINVAL.to_errno();
    }
    let mut at = head;
    while let Some(memory) = Frame::at(at) {
        // SAFETY: By the caller's promise.
        if let Err(err) = unsafe { add(set, memory) } {
            // SAFETY: As above. The blocks stay preserved and can be restored again.
            unsafe { forget(set) };
            return err.to_errno();
        }
        at = block::next(memory);
    }
    0
}

/// Drops the list of a set but leaves the memory of its blocks alone.
///
/// # Safety
///
/// `set` is initialised.
unsafe fn forget(set: *mut kho_block_set) {
    // SAFETY: By the caller's promise; the entries were made by `add`.
    unsafe {
        for block in blocks(set) {
            drop(KBox::from_raw(block));
        }
        let head = addr_of_mut!((*set).blocks);
        (*head).next = head;
        (*head).prev = head;
        (*set).nblocks = 0;
        (*set).head_pa = 0;
    }
}

/// # Safety
///
/// `set` is initialised and used by nobody else meanwhile.
#[export]
unsafe extern "C" fn kho_block_set_destroy(set: *mut kho_block_set) {
    // SAFETY: By the caller's promise; `remove` leaves entries not yet passed alone.
    unsafe {
        for block in blocks(set) {
            remove(set, block);
        }
        (*set).nblocks = 0;
        (*set).head_pa = 0;
    }
}

/// # Safety
///
/// `set` is initialised and used by nobody else meanwhile.
#[export]
unsafe extern "C" fn kho_block_set_clear(set: *mut kho_block_set) {
    // SAFETY: By the caller's promise.
    unsafe { blocks(set).filter_map(|block| frame(block)) }.for_each(block::clear);
}

/// # Safety
///
/// `it` may be written; `set` is initialised and outlives it.
#[export]
unsafe extern "C" fn kho_block_set_it_init(it: *mut kho_block_set_it, set: *mut kho_block_set) {
    // SAFETY: By the caller's promise.
    unsafe {
        it.write(kho_block_set_it {
            bs: set,
            block: blocks(set).next().unwrap_or(null_mut()),
            i: 0,
        });
    }
}

/// The record the iterator is at.
///
/// # Safety
///
/// `it` is at a block, and its index within it.
unsafe fn record(it: &kho_block_set_it) -> *mut c_void {
    // SAFETY: By the caller's promise the offset is within the block's page.
    unsafe {
        let size = (*it.bs).entry_size;
        (*it.block)
            .ser
            .cast::<u8>()
            .add(block::HEADER + it.i as usize * size)
            .cast()
    }
}

/// Goes to the next block if the iterator is at `end` of its block; false if there is none.
///
/// # Safety
///
/// `it` is at a block of its set.
unsafe fn next_block(it: &mut kho_block_set_it, end: u64) -> bool {
    if it.i < end {
        return true;
    }
    // SAFETY: By the caller's promise.
    match unsafe { neighbour(it.bs, it.block, true) } {
        Some(next) => {
            it.block = next;
            it.i = 0;
            true
        }
        None => false,
    }
}

/// # Safety
///
/// `it` was initialised by [`kho_block_set_it_init`], and its set has not shrunk since.
#[export]
unsafe extern "C" fn kho_block_set_it_reserve_entry(it: *mut kho_block_set_it) -> *mut c_void {
    // SAFETY: By the caller's promise; indexes stay below the records a block can hold.
    unsafe {
        let it = &mut *it;
        if it.block.is_null() || !next_block(it, (*it.bs).count_per_block) {
            return null_mut();
        }
        let entry = record(it);
        it.i += 1;
        if let Some(memory) = frame(it.block) {
            block::set_count(memory, it.i);
        }
        entry
    }
}

/// # Safety
///
/// As for [`kho_block_set_it_reserve_entry`].
#[export]
unsafe extern "C" fn kho_block_set_it_read_entry(it: *mut kho_block_set_it) -> *mut c_void {
    // SAFETY: By the caller's promise; a count beyond what fits was refused when the set was
    // restored, and is cut here should it have changed since.
    unsafe {
        let it = &mut *it;
        let Some(memory) = (!it.block.is_null()).then(|| frame(it.block)).flatten() else {
            return null_mut();
        };
        let most = (*it.bs).count_per_block;
        if !next_block(it, block::count(memory).min(most)) {
            return null_mut();
        }
        let entry = record(it);
        it.i += 1;
        entry
    }
}

/// # Safety
///
/// As for [`kho_block_set_it_reserve_entry`].
#[export]
unsafe extern "C" fn kho_block_set_it_prev(it: *mut kho_block_set_it) -> *mut c_void {
    // SAFETY: By the caller's promise; indexes stay below the records a block can hold.
    unsafe {
        let it = &mut *it;
        if it.block.is_null() {
            return null_mut();
        }
        if it.i == 0 {
            let Some(before) = neighbour(it.bs, it.block, false) else {
                return null_mut();
            };
            it.block = before;
            it.i = (*it.bs).count_per_block;
        }
        it.i -= 1;
        record(it)
    }
}

const _: () = assert!(size_of::<bindings::kho_block_header_ser>() == block::HEADER);
