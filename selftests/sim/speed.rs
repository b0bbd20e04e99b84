// SPDX-License-Identifier: GPL-2.0

//! How many live updates a second the simulated machine does.
//!
//! `UPDATES=n cargo test --release -p liveupdate speed -- --nocapture` measures `n` of them. One
//! is: preserve three folios and a run of pages, kexec, boot, restore them, free them.

use std::time::Instant;

use super::kernel::{owned, small_machine, Kernel};
use crate::kho::addr::{Order, PageRange, Pfn};
use crate::sys::pages;

/// Updates when nobody wants to measure.
const FEW: u32 = 20;

fn update(mut kernel: Kernel) -> Kernel {
    let orders = [0, 0, 2].map(|raw| Order::new(raw).expect("small"));
    let folios = orders.map(|order| (pages::alloc_folio(order).expect("memory"), order));
    for (pfn, order) in folios {
        kernel.out.preserve_block(pfn, order).expect("memory");
    }
    let eight = Order::new(3).expect("small");
    let run = PageRange::new(pages::alloc_folio(eight).expect("memory"), 8);
    kernel.out.preserve_pages(run).expect("memory");
    let range = |(pfn, order): (Pfn, Order)| PageRange::new(pfn, order.pages());
    let ranges = folios.into_iter().map(range).chain([run]);
    let left: Vec<u64> = ranges
        .clone()
        .flat_map(|r| r.start.raw()..r.end.raw())
        .collect();
    let (mut kernel, refused) = Kernel::warm(kernel.kexec(&left));
    assert!(refused.is_none(), "{refused:?}");
    let idle = owned();
    for (pfn, order) in folios {
        assert_eq!(kernel.restore_folio(pfn), Some(order));
    }
    assert!(kernel.restore_pages(run));
    ranges.for_each(pages::free_folio);
    assert_eq!(owned(), idle, "memory is leaked");
    kernel
}

#[test]
fn updates_a_second() {
    let wanted = std::env::var("UPDATES").ok();
    let count = wanted.map_or(FEW, |n| n.parse().expect("UPDATES is a number"));
    let mut kernel = Kernel::cold(small_machine());
    let start = Instant::now();
    for _ in 0..count {
        kernel = update(kernel);
    }
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    println!("{count} updates, {rate:.0} a second");
}
