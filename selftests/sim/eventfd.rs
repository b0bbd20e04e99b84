// SPDX-License-Identifier: GPL-2.0

//! eventfds through updates of the simulated machine: counts, one owner, giving up, failures, and
//! lies.

use std::cell::Cell;

use proptest::prelude::*;

use super::kernel::{frame_bytes, owned, preserved, small_machine, Kernel};
use crate::eventfd_luo::{discard, freeze, preserve, retrieve, unpreserve, EventFd, Record};
use crate::kho::addr::PhysAddr;
use crate::sys::error::{Result, EBUSY, EINVAL, ENOENT, ENOMEM, EPROTONOSUPPORT};
use crate::sys::machine::{with, Owner};
use crate::sys::record::Handover;
use crate::sys::Frame;

/// An eventfd.
#[derive(Debug, Default)]
struct Fake {
    count: Cell<u64>,
    semaphore: bool,
    nonblocking: Cell<bool>,
    kept: Cell<Option<PhysAddr>>,
    attached: Cell<bool>,
}

impl Fake {
    fn new(count: u64, semaphore: bool, nonblocking: bool) -> Self {
        Self {
            count: Cell::new(count),
            semaphore,
            nonblocking: Cell::new(nonblocking),
            kept: Cell::new(None),
            attached: Cell::new(false),
        }
    }

    fn of(record: &Record) -> Self {
        Self::new(record.count, record.semaphore, record.nonblocking)
    }

    /// Someone changes the count, as all in fs/eventfd.c do.
    fn set(&self, count: u64) {
        self.count.set(count);
        if let Some(at) = self.kept.get() {
            let page = Frame::at(PhysAddr::new(at.raw() & !0xfff)).expect("RAM");
            let index = usize::try_from(at.raw() & 0xfff).expect("small") / 8;
            page.set_word(index, count.to_le());
        }
    }

    fn record(&self) -> Record {
        Record {
            count: self.count.get(),
            semaphore: self.semaphore,
            nonblocking: self.nonblocking.get(),
        }
    }
}

impl EventFd for Fake {
    fn semaphore(&self) -> bool {
        self.semaphore
    }

    fn nonblocking(&self) -> bool {
        self.nonblocking.get()
    }

    fn attached(&self) -> bool {
        self.attached.get()
    }

    fn keep(&self, count: PhysAddr) -> Result {
        if self.kept.get().is_some() {
            return Err(EBUSY);
        }
        self.kept.set(Some(count));
        self.set(self.count.get());
        Ok(())
    }

    fn unkeep(&self) {
        self.kept.set(None);
    }
}

fn update(kernel: Kernel) -> Kernel {
    let frames = preserved(&kernel.out);
    let (kernel, refused) = Kernel::warm(kernel.kexec(&frames));
    assert!(refused.is_none(), "{refused:?}");
    kernel
}

fn made(kernel: &mut Kernel, at: PhysAddr) -> Result<Record> {
    retrieve(kernel, at, |record| Ok(Fake::of(record))).map(|file| file.record())
}

fn waiting() -> u64 {
    with(|m| m.count(Owner::Waiting))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn they_live_through_two_updates(
        files in proptest::collection::vec(any::<(u64, bool, bool)>(), 1..20),
        later in any::<u64>(),
        late in any::<u64>(),
    ) {
        let mut files: Vec<Fake> = files.into_iter().map(|(c, s, n)| Fake::new(c, s, n)).collect();
        let mut kernel = Kernel::cold(small_machine());
        for _ in 0..2 {
            let at = files.iter().map(|file| preserve(&mut kernel, file)).collect::<Result<Vec<_>>>();
            let at = at.expect("memory");
            // One is signalled meanwhile, and its flag changed; another one after the freeze.
            files[0].set(later);
            files[0].nonblocking.set(later % 2 == 0);
            for (file, at) in files.iter().zip(&at) {
                freeze(file, *at).expect("our own");
            }
            let last = files.last().expect("at least one");
            last.set(last.count.get() ^ late);
            let expected: Vec<Record> = files.iter().map(Fake::record).collect();
            kernel = update(kernel);
            let arrived: Result<Vec<_>> = at.iter().map(|at| made(&mut kernel, *at)).collect();
            prop_assert_eq!(arrived.as_ref(), Ok(&expected));
            files = expected.iter().map(Fake::of).collect();
            // Once only.
            for at in at {
                prop_assert_eq!(made(&mut kernel, at).err(), Some(ENOENT));
            }
        }
    }

    #[test]
    fn what_is_given_up_leaves_nothing(count: u64, semaphore: bool, nonblocking: bool) {
        let mut kernel = Kernel::cold(small_machine());
        let file = Fake::new(count, semaphore, nonblocking);
        // The tree's nodes for these addresses are there from now on.
        let other = Fake::new(0, false, false);
        preserve(&mut kernel, &other).expect("memory");
        let before = owned();
        for _ in 0..3 {
            let at = preserve(&mut kernel, &file).expect("memory");
            // A second owner changes nothing for the first.
            prop_assert_eq!(preserve(&mut kernel, &file).err(), Some(EBUSY));
            freeze(&file, at).expect("our own");
            unpreserve(&mut kernel, &file, at);
            prop_assert_eq!(owned(), before);
            prop_assert_eq!(file.kept.get(), None);
            prop_assert_eq!(file.record(), Record { count, semaphore, nonblocking });
        }
    }

    #[test]
    fn lies_make_no_eventfd(bytes in proptest::collection::vec(any::<u8>(), 32), word in 0usize..4, elsewhere: u64) {
        let mut kernel = Kernel::cold(small_machine());
        let at = preserve(&mut kernel, &Fake::new(1, false, false)).expect("memory");
        let page = Frame::at(at).expect("RAM");
        let lie = u64::from_ne_bytes(bytes[word * 8..][..8].try_into().expect("eight"));
        page.set_word(word, lie);
        let expected = Record::decode(&frame_bytes(page));
        let mut kernel = update(kernel);
        let before = waiting();
        if elsewhere != at.raw() {
            prop_assert!(made(&mut kernel, PhysAddr::new(elsewhere)).is_err());
        }
        match expected {
            Ok(record) => prop_assert_eq!(made(&mut kernel, at), Ok(record)),
            Err(_) => {
                // What it is, nobody knows: it waits for ever.
                prop_assert!(made(&mut kernel, at).is_err());
                prop_assert!(discard(&mut kernel, at).is_err());
                prop_assert_eq!(waiting(), before);
            }
        }
    }
}

/// What is signalled would be taken by what is left behind.
#[test]
fn one_that_is_attached_is_refused() {
    let mut kernel = Kernel::cold(small_machine());
    let before = owned();
    let file = Fake::new(5, false, false);
    file.attached.set(true);
    assert_eq!(preserve(&mut kernel, &file), Err(EBUSY));
    assert_eq!(owned(), before);
    file.attached.set(false);
    let at = preserve(&mut kernel, &file).expect("memory");
    file.attached.set(true);
    assert_eq!(freeze(&file, at), Err(EBUSY));
    file.attached.set(false);
    assert_eq!(freeze(&file, at), Ok(()));
}

#[test]
fn a_failure_leaves_all_as_it_was() {
    let file = Fake::new(5, true, false);
    let mut kernel = Kernel::cold(small_machine());
    let before = owned();
    let mut failed = 0;
    let at = loop {
        with(|m| m.faults.nth = Some(m.allocations() + failed));
        match preserve(&mut kernel, &file) {
            Ok(at) => break at,
            Err(err) => assert_eq!(err, ENOMEM),
        }
        assert_eq!(file.kept.get(), None);
        assert_eq!(owned(), before);
        failed += 1;
    };
    assert!(failed > 0);
    with(|m| m.faults.nth = None);
    let mut kernel = update(kernel);
    for _ in 0..3 {
        let refused = retrieve(&mut kernel, at, |_| Err::<(), _>(ENOMEM));
        assert_eq!(refused, Err(ENOMEM));
    }
    assert_eq!(made(&mut kernel, at), Ok(file.record()));
}

#[test]
fn what_nobody_asked_for_is_given_back() {
    let mut kernel = Kernel::cold(small_machine());
    let at = preserve(&mut kernel, &Fake::new(5, true, false)).expect("memory");
    let mut kernel = update(kernel);
    let before = (waiting(), owned());
    discard(&mut kernel, at).expect("it waits");
    assert!(waiting() < before.0);
    assert_eq!(discard(&mut kernel, at), Err(ENOENT));
}

#[test]
fn a_later_version_is_not_guessed() {
    let mut kernel = Kernel::cold(small_machine());
    let at = preserve(&mut kernel, &Fake::new(5, true, false)).expect("memory");
    let page = Frame::at(at).expect("RAM");
    page.set_word(0, page.word(0) + (1 << 32));
    let mut kernel = update(kernel);
    assert_eq!(made(&mut kernel, at).err(), Some(EPROTONOSUPPORT));
    assert_ne!(made(&mut kernel, at).err(), Some(EINVAL));
}

/// A preserved eventfd: its record.
pub(super) fn a_file_handed_over(kernel: &mut Kernel) -> PhysAddr {
    let file = Fake::new(0x1122_3344_5566_7788, true, false);
    let at = preserve(kernel, &file).expect("memory");
    file.nonblocking.set(true);
    freeze(&file, at).expect("our own");
    at
}
