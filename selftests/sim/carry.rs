// SPDX-License-Identifier: GPL-2.0

//! Carrying structures of preserved pages from kernel to kernel.

use std::ffi::CStr;

use super::kernel::{preserved, small_machine, Kernel, Ledger};
use crate::kho::addr::{Order, PhysAddr};
use crate::kho::page::PreservedPage;
use crate::sys::early::Mapped;
use crate::sys::error::Result;
use crate::sys::faults::Faults;
use crate::sys::fdt::Blob;
use crate::sys::machine::with;
use crate::sys::pages;

/// A kernel that was not handed anything, and lends its records.
pub(crate) fn start() -> Kernel {
    let mut kernel = Kernel::cold(small_machine());
    kernel.lend();
    kernel
}

/// Replaces a kernel by the next one, which lends its records. All that is preserved is left, and
/// `meanwhile` may spoil it. Returns as well where the blobs of these names are.
pub(crate) fn update(
    mut kernel: Kernel,
    names: &[&CStr],
    meanwhile: impl FnOnce(),
) -> (Kernel, Vec<Result<PhysAddr>>) {
    kernel.take_back();
    let left = preserved(&kernel.out);
    let handed = kernel.kexec(&left);
    meanwhile();
    let (mut kernel, refused) = Kernel::warm(handed);
    assert!(refused.is_none(), "{refused:?}");
    let mapped = Mapped::new(handed.fdt, 4096).expect("it was judged");
    let fdt = Blob::new(mapped.bytes());
    let named = names.iter().map(|name| {
        let found = kernel.subtree(&fdt, name)?;
        assert_eq!(found.size, 4096);
        Ok(found.data)
    });
    let named = named.collect();
    kernel.lend();
    (kernel, named)
}

/// Runs `act` with the nth allocation from now on failing; if that makes it fail, it has changed
/// nothing, and works when tried again. Returns as well whether it failed.
pub(crate) fn despite<T>(nth: u64, mut act: impl FnMut() -> Result<T>) -> (T, bool) {
    let before = Ledger::open();
    with(|m| {
        m.faults = Faults {
            nth: Some(m.allocations() + nth),
            ..Faults::default()
        };
    });
    let done = act();
    with(|m| m.faults = Faults::default());
    match done {
        Ok(done) => (done, false),
        Err(_) => {
            before.close();
            (act().expect("it works when tried again"), true)
        }
    }
}

/// Addresses that no link may lead to, each with why; and what belongs to somebody else.
pub(crate) fn elsewhere(kernel: &mut Kernel) -> (Vec<(&'static str, u64)>, PhysAddr) {
    kernel.take_back();
    let order = Order::new(1).expect("small");
    let folio = pages::alloc_folio(order).expect("memory");
    kernel.out.preserve_block(folio, order).expect("memory");
    kernel.lend();
    let other = PreservedPage::new().expect("memory").keep().phys();
    let unpreserved = pages::alloc_folio(Order::ZERO).expect("memory").phys();
    let scratch = pages::alloc_movable(Order::ZERO).expect("memory").phys();
    let bad = vec![
        ("the end of memory", 8192 << 12),
        ("no memory at all", 1 << 51),
        ("the hole", 0x3000),
        ("a page that was not preserved", unpreserved.raw()),
        ("scratch", scratch.raw()),
        ("a block of another order", folio.phys().raw()),
        ("the middle of a block", folio.phys().raw() + 4096),
    ];
    (bad, other)
}
