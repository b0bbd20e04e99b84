// SPDX-License-Identifier: GPL-2.0

//! The root record and the table of FLBs: what this kernel leaves, and what it was left.

use super::drivers::Drivers;
use super::flb::{self, Arrived};
use super::format::{FlbHeaderSer, FlbSer, LuoSer, COMPATIBLE, FLB_PAGES, MAX_FLBS, SUBTREE};
use super::text::{escape, Compatible};
use crate::kho::addr::PhysAddr;
use crate::kho::block_chain::{claim_page, put_back, Blocks};
use crate::kho::page::PreservedPage;
use crate::kho::state as handover;
use crate::kho::words;
use crate::sys::alloc::{KVVec, GFP_KERNEL};
use crate::sys::error::{Error, Result, EBADMSG, ENODATA, ENOMEM};
use crate::sys::lock::Locked;
use crate::sys::{log, Frame};

/// LUO's root record, which this kernel will hand over. Dropping it removes its subtree.
pub(crate) struct Root {
    page: PreservedPage,
    flbs: PreservedPage,
}

impl Root {
    /// Makes a root that names nothing yet, for update number `number`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also when the root FDT is full.
    pub(crate) fn publish(number: u64) -> Result<Self> {
        let root = Self {
            page: PreservedPage::new()?,
            flbs: PreservedPage::new()?,
        };
        let record = LuoSer {
            compatible: COMPATIBLE,
            number,
            sessions: 0,
            flbs: root.flbs.frame().phys().raw(),
        };
        words::write(root.page.frame(), 0, &record);
        root.write_flb_header(0);
        let size = size_of::<LuoSer>();
        handover::add_subtree(SUBTREE, root.page.frame().phys(), size)?;
        Ok(root)
    }

    /// Names the first block of sessions, or none.
    pub(crate) fn set_sessions(&mut self, head: PhysAddr) {
        let mut record: LuoSer = words::read(self.page.frame(), 0);
        record.sessions = head.raw();
        words::write(self.page.frame(), 0, &record);
    }

    /// Writes the table of FLBs in use. The registry may change meanwhile: an FLB that comes or
    /// goes then has no users.
    pub(crate) fn write_flbs(&mut self, drivers: &Locked<Drivers>) {
        let (mut number, mut count) = (0, 0);
        loop {
            let Some(used) = drivers.lock().flb_after(number) else {
                break;
            };
            number = used.number();
            let side = used.flb.outgoing(|side| *side);
            if side.users == 0 || count == MAX_FLBS {
                continue;
            }
            let record = FlbSer {
                name: *used.compatible.bytes(),
                data: side.data,
                count: side.users.into(),
            };
            let at = size_of::<FlbHeaderSer>() + count * size_of::<FlbSer>();
            words::write(self.flbs.frame(), at, &record);
            count += 1;
        }
        self.write_flb_header(count as u64);
    }

    fn write_flb_header(&self, count: u64) {
        let pages = FLB_PAGES;
        words::write(self.flbs.frame(), 0, &FlbHeaderSer { pages, count });
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        handover::remove_subtree(self.page.frame().phys());
    }
}

/// The records that the previous kernel left.
pub(crate) struct Left {
    /// Number of the update that led here.
    pub(crate) number: u64,
    /// First block of sessions, or zero.
    pub(crate) sessions: PhysAddr,
    pub(crate) flbs: Result<KVVec<Arrived>>,
    /// The page that the table was read from.
    pub(crate) blocks: Blocks,
}

/// Why the root was not read.
pub(crate) enum Unreadable {
    /// So many bytes are not enough.
    Short(usize),
    /// It is not in a preserved page.
    NotPreserved(PhysAddr),
    /// Of another format.
    Format([u8; 8]),
}

impl log::Display for Unreadable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Short(size) => write!(f, "its root is too small ({size} bytes)"),
            Self::NotPreserved(at) => write!(f, "its root at {:#x} is not preserved", at.raw()),
            Self::Format(found) => {
                f.write_str("its format is ")?;
                let text = found.split(|byte| *byte == 0).next();
                escape(text.unwrap_or_default(), f)?;
                f.write_str(", not luo-v5")
            }
        }
    }
}

/// Reads the root of `size` bytes at an address, and the table of FLBs. `trouble` is told what is
/// wrong with the table, which costs the FLBs concerned alone.
pub(crate) fn read(
    at: PhysAddr,
    size: usize,
    trouble: impl FnMut(core::fmt::Arguments<'_>),
) -> Result<Left, Unreadable> {
    if size < size_of::<LuoSer>() {
        return Err(Unreadable::Short(size));
    }
    let page = claim_page(at).ok_or(Unreadable::NotPreserved(at))?;
    let record: LuoSer = words::read(page, 0);
    if record.compatible != COMPATIBLE {
        put_back(page);
        return Err(Unreadable::Format(record.compatible));
    }
    // It stays where it is, reserved: it can be asked for by its name, as any subtree.
    put_back(page);
    let mut blocks = Blocks::none();
    let flbs = read_flbs(PhysAddr::new(record.flbs), &mut blocks, trouble);
    Ok(Left {
        number: record.number,
        sessions: PhysAddr::new(record.sessions),
        flbs,
        blocks,
    })
}

fn read_flbs(
    at: PhysAddr,
    blocks: &mut Blocks,
    mut trouble: impl FnMut(core::fmt::Arguments<'_>),
) -> Result<KVVec<Arrived>> {
    if at.raw() == 0 {
        return Err(ENODATA);
    }
    let Some(page) = claim_page(at) else {
        trouble(log::fmt!(
            "the table of FLBs at {:#x} is not preserved",
            at.raw()
        ));
        return Err(EBADMSG);
    };
    let FlbHeaderSer { pages, count } = words::read(page, 0);
    if pages != FLB_PAGES || count > MAX_FLBS as u64 {
        put_back(page);
        trouble(log::fmt!(
            "the table of FLBs at {:#x} cannot be: {count} in {pages} pages",
            at.raw()
        ));
        return Err(EBADMSG);
    }
    let read = read_entries(page, count, &mut trouble);
    put_back(page);
    let read = read.and_then(|list| blocks.add(page).map(|()| list));
    if read.is_err() {
        trouble(log::fmt!("there was no memory to read the table of FLBs"));
    }
    read
}

fn read_entries(
    page: Frame,
    count: u64,
    trouble: &mut impl FnMut(core::fmt::Arguments<'_>),
) -> Result<KVVec<Arrived>> {
    let mut list: KVVec<Arrived> = KVVec::new();
    for index in 0..count as usize {
        let at = size_of::<FlbHeaderSer>() + index * size_of::<FlbSer>();
        let record: FlbSer = words::read(page, at);
        let Some(name) = Compatible::new(&record.name) else {
            trouble(log::fmt!("FLB number {index} has no proper name"));
            continue;
        };
        if list.iter().any(|other| other.name == name) {
            trouble(log::fmt!("FLB {name} is listed twice; the second is lost"));
            continue;
        }
        let users = flb::users(record.count).inspect_err(|_: &Error| {
            trouble(log::fmt!(
                "FLB {name} has {} users, which cannot be; it is lost",
                record.count
            ))
        });
        let data = record.data;
        let arrived = Arrived { name, data, users };
        list.push(arrived, GFP_KERNEL).map_err(|_| ENOMEM)?;
    }
    Ok(list)
}
