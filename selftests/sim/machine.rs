// SPDX-License-Identifier: GPL-2.0

//! The simulated machine itself: what the other tests rely on.

use super::kernel::{small_machine, Kernel, Ledger};
use crate::kho::addr::{Order, PageRange};
use crate::sys::error::EINVAL;
use crate::sys::faults::Rate;
use crate::sys::machine::with;
use crate::sys::pages;

fn order(raw: u32) -> Order {
    Order::new(raw).expect("small")
}

/// Which of a hundred allocations fail.
fn failing(rate: Rate) -> Vec<bool> {
    let _kernel = Kernel::cold(small_machine());
    with(|m| m.faults.rate = Some(rate));
    (0..100)
        .map(|_| pages::alloc_folio(Order::ZERO).is_none())
        .collect()
}

#[test]
fn a_rate_is_kept_and_repeats() {
    let one = failing(Rate::new(7, 5));
    let count = one.iter().filter(|failed| **failed).count();
    assert!((8..40).contains(&count), "{count} of 100, one in 5");
    assert_eq!(one, failing(Rate::new(7, 5)));
    assert_ne!(one, failing(Rate::new(8, 5)));
    assert!(failing(Rate::new(7, 1)).iter().all(|failed| *failed));
}

#[test]
fn large_orders_fail_and_small_ones_do_not() {
    let _kernel = Kernel::cold(small_machine());
    with(|m| m.faults.above = Some(2));
    assert!(pages::alloc_folio(order(2)).is_some());
    assert!(pages::alloc_folio(order(3)).is_none());
    assert!(pages::alloc_movable(order(3)).is_none());
}

#[test]
fn scratch_is_for_what_can_be_moved() {
    let mut kernel = Kernel::cold(small_machine());
    let in_scratch = |pfn: u64| with(|m| m.in_scratch(pfn));
    let fixed = pages::alloc_folio(order(1)).expect("memory");
    assert!(!in_scratch(fixed.raw()));
    let moved = pages::alloc_movable(order(1)).expect("memory");
    assert!(in_scratch(moved.raw()));
    assert_eq!(kernel.out.preserve_block(moved, order(1)), Err(EINVAL));
    let log = with(|m| m.take_log()).join("\n");
    assert!(
        log.contains("refusing to preserve scratch memory"),
        "{log:?}"
    );
    // Once scratch is full, they come from elsewhere.
    let elsewhere = std::iter::from_fn(|| pages::alloc_movable(Order::ZERO));
    assert!(elsewhere.into_iter().any(|pfn| !in_scratch(pfn.raw())));
    // And it is scratch again for the next kernel, whoever had it.
    kernel.out.preserve_block(fixed, order(1)).expect("memory");
    let (mut kernel, refused) = Kernel::warm(kernel.kexec(&[fixed.raw(), fixed.raw() + 1]));
    assert!(refused.is_none(), "{refused:?}");
    assert_eq!(kernel.restore_folio(fixed), Some(order(1)));
    assert!(in_scratch(
        pages::alloc_movable(Order::ZERO).expect("memory").raw()
    ));
}

#[test]
fn a_leak_is_named() {
    let _kernel = Kernel::cold(small_machine());
    let ledger = Ledger::open();
    let kept = pages::alloc_folio(Order::ZERO).expect("memory");
    let number = with(|m| m.allocations()) - 1;
    let freed = pages::alloc_folio(order(3)).expect("memory");
    pages::free_folio(PageRange::new(freed, 8));
    let leaks = ledger.leaks();
    let wanted = format!("frame {:#x} of allocation {number}", kept.raw());
    assert_eq!(leaks, [wanted]);
    pages::free_folio(PageRange::new(kept, 1));
    ledger.close();
}
