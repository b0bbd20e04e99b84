// SPDX-License-Identifier: GPL-2.0

//! Handles in records: what they stand for comes back once, and nothing comes of a wrong one.

use proptest::prelude::*;

use crate::kho::addr::{Order, PhysAddr};
use crate::kho::vmalloc::{self, Descriptor};
use crate::luo::records::{Claimed, Kept};
use crate::sim::kernel::{owned, small_machine, FakeArea, Kernel};
use crate::sys::error::{Result, EINVAL, ENOENT, EPROTONOSUPPORT};
use crate::sys::machine::{with, Owner};
use crate::sys::record::{Area, Fault, Handover, Page, Ref};
use crate::sys::{handover_struct, pages, Frame};

handover_struct! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Item("tests-item") version 1 layouts [0x2b84238f] {
        number: u64,
    }
}

handover_struct! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Stranger("tests-stranger") version 1 layouts [0xc45d49d8] {
        number: u64,
        strange: bool,
    }
}

handover_struct! {
    #[derive(Debug, PartialEq)]
    struct Table("tests-table") version 1 layouts [0x5efcd596] {
        items: [Option<Ref<Page<Item>>>; 3],
        area: Option<Ref<Area<Item>>>,
    }
}

/// A handle to a record of this kernel's, and what its page is known by.
fn reference<T: Handover>(kept: &Kept<T>) -> Ref<Page<T>> {
    Ref::__new(kept.phys().raw(), 0)
}

fn redeem<T: Handover>(kernel: &mut Kernel, handle: Ref<Page<T>>) -> Result<T> {
    let (at, _) = handle.__into_parts();
    let incoming = kernel.incoming.as_mut().ok_or(EINVAL)?;
    let claimed = Claimed::<T>::new(incoming, PhysAddr::new(at), 1)?;
    let Claimed { value, .. } = &claimed;
    // A handle to it cannot be taken out of a record that may be put back.
    let bytes = value.encode(1)?;
    claimed.free(incoming);
    Ok(T::decode(zerocopy::IntoBytes::as_bytes(&bytes))?)
}

fn area_handle(area: &Descriptor) -> Ref<Area<Item>> {
    let detail =
        u64::from(area.total_pages) | u64::from(area.flags) << 32 | u64::from(area.order) << 48;
    Ref::__new(area.first.raw(), detail)
}

/// Gives the pages of an area back, once.
fn redeem_area(kernel: &mut Kernel, handle: Ref<Area<Item>>) -> Result<usize> {
    let (first, detail) = handle.__into_parts();
    let descriptor = Descriptor {
        first: PhysAddr::new(first),
        total_pages: detail as u32,
        flags: (detail >> 32) as u16,
        order: (detail >> 48) as u16,
    };
    Ok(kernel.restore_vmalloc(&descriptor)?.len())
}

/// A kernel that was handed a table with two items and an area of three pages: the table, its
/// bytes, and who else is preserved there.
fn updated() -> (Kernel, PhysAddr) {
    let mut kernel = Kernel::cold(small_machine());
    let out = &mut *kernel.out;
    let items = [3, 4].map(|number| Kept::new(out, &Item { number }, 1).expect("memory"));
    let stranger = Stranger {
        number: 5,
        strange: true,
    };
    let stranger = Kept::new(out, &stranger, 1).expect("memory");
    let area = FakeArea {
        order: Order::ZERO,
        blocks: (0..3)
            .map(|_| pages::alloc_folio(Order::ZERO).expect("memory"))
            .collect(),
    };
    let descriptor = vmalloc::preserve(out, &area, 0).expect("memory");
    let table = Table {
        items: [
            Some(reference(&items[0])),
            // As a kernel with bugs may have it: the address of something else.
            Some(Ref::__new(stranger.phys().raw(), 0)),
            Some(reference(&items[1])),
        ],
        area: Some(area_handle(&descriptor)),
    };
    let table = Kept::new(out, &table, 1).expect("memory").phys();
    let preserved = crate::sim::kernel::preserved(&kernel.out);
    let (kernel, refused) = Kernel::warm(kernel.kexec(&preserved));
    assert!(refused.is_none(), "{refused:?}");
    (kernel, table)
}

/// The table, as often as one likes: what a forger does.
fn copy(at: PhysAddr) -> Table {
    let page = Frame::at(at).expect("RAM");
    let bytes = crate::sim::kernel::frame_bytes(page);
    Table::decode(&bytes).expect("it was written so")
}

#[test]
fn each_comes_back_once() {
    let (mut kernel, at) = updated();
    let owned_before = owned();
    let mut forged = copy(at);
    let table: Ref<Page<Table>> = Ref::__new(at.raw(), 0);
    let mut table = redeem(&mut kernel, table).expect("it was preserved");
    let mut item = |table: &mut Table, place: usize| {
        let handle = table.items[place].take().expect("a handle");
        redeem(&mut kernel, handle)
    };
    assert_eq!(item(&mut table, 0), Ok(Item { number: 3 }));
    assert_eq!(item(&mut table, 2), Ok(Item { number: 4 }));
    // The same bytes decoded again.
    assert_eq!(item(&mut forged, 0), Err(ENOENT));
    assert_eq!(item(&mut forged, 2), Err(ENOENT));
    // The address of a struct of another type: it is not touched, and its own handle works after.
    assert_eq!(item(&mut table, 1), Err(EINVAL));
    let (stranger, _) = forged.items[1].take().expect("a handle").__into_parts();
    let stranger: Ref<Page<Stranger>> = Ref::__new(stranger, 0);
    let stranger = redeem(&mut kernel, stranger).map(|stranger| stranger.number);
    assert_eq!(stranger, Ok(5));

    let area = table.area.take().expect("a handle");
    assert_eq!(redeem_area(&mut kernel, area), Ok(3));
    let area = forged.area.take().expect("a handle");
    assert_eq!(redeem_area(&mut kernel, area), Err(EINVAL));
    // Nothing but the three pages of the area is owned in addition.
    assert_eq!(owned(), owned_before + 3);
}

#[test]
fn a_handle_of_another_type_is_no_value() {
    handover_struct! {
        struct AnItem("tests-one") version 1 layouts [0x142b830b] {
            at: Ref<Page<Item>>,
        }
    }
    handover_struct! {
        struct AStranger("tests-one") version 1 layouts [0x69182cea] {
            at: Ref<Page<Stranger>>,
        }
    }
    let one = AnItem {
        at: Ref::__new(4096, 0),
    };
    let mut bytes = one.encode(1).expect("all is said");
    assert!(AnItem::decode(&bytes).is_ok());
    // Even the layout differs; with the header of the other, the tag does.
    assert_eq!(AStranger::decode(&bytes).err(), Some(Fault::Layout));
    let other = AStranger::blank().encode(1).expect("all is said");
    bytes[..4].copy_from_slice(&other[..4]);
    assert_eq!(AStranger::decode(&bytes).err(), Some(Fault::Value("at")));
}

#[test]
fn another_version_than_the_handlers_is_refused_and_waits() {
    let (mut kernel, at) = updated();
    let incoming = kernel.incoming.as_mut().expect("updated");
    let waiting = with(|m| m.count(Owner::Waiting));
    let claimed = Claimed::<Table>::new(incoming, at, 2);
    assert_eq!(claimed.err(), Some(EPROTONOSUPPORT));
    assert_eq!(with(|m| m.count(Owner::Waiting)), waiting);
    let claimed = Claimed::<Table>::new(incoming, at, 1).ok();
    claimed.expect("it waits").put_back(incoming);
    let claimed = Claimed::<Table>::new(incoming, at, 1).ok();
    claimed.expect("it waits again").free(incoming);
    assert_eq!(Claimed::<Table>::new(incoming, at, 1).err(), Some(ENOENT));
}

#[test]
fn a_record_that_is_given_up_leaves_nothing() {
    let mut kernel = Kernel::cold(small_machine());
    let out = &mut *kernel.out;
    let first = Kept::new(out, &Item { number: 1 }, 1).expect("memory");
    let owned_before = owned();
    let kept = Kept::new(out, &Item { number: 2 }, 1).expect("memory");
    kept.change(1, |item| item.number = 9).expect("our own");
    let bytes = crate::sim::kernel::frame_bytes(Frame::at(kept.phys()).expect("RAM"));
    assert_eq!(Item::decode(&bytes), Ok(Item { number: 9 }));
    kept.give_up(out);
    assert_eq!(owned(), owned_before);
    first.give_up(out);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn forged_handles_get_nothing(address: u64, page in 0u64..8192, detail: u64, order in 0u64..12) {
        let (mut kernel, at) = updated();
        let mine = copy(at);
        let others: Vec<u64> = mine.items.into_iter().flatten().map(|h| h.__into_parts().0).collect();
        let waiting = with(|m| m.count(Owner::Waiting));
        for forged in [address, page << 12] {
            if !others.contains(&forged) {
                prop_assert!(redeem::<Item>(&mut kernel, Ref::__new(forged, 0)).is_err());
            }
            for detail in [detail, 3, order << 48 | 3] {
                let first = mine.area.as_ref().map(|_| forged).unwrap_or_default();
                // The list of the real area is the one address that is true.
                let real = copy(at).area.expect("a handle").__into_parts();
                if (first, detail) != real {
                    prop_assert!(redeem_area(&mut kernel, Ref::__new(first, detail)).is_err());
                }
            }
        }
        prop_assert_eq!(with(|m| m.count(Owner::Waiting)), waiting);
    }
}
