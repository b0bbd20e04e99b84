// SPDX-License-Identifier: GPL-2.0

//! memfds through updates of the simulated machine: bytes, batches, failures, and lies.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::kernel::{owned, small_machine, Handed, Kernel};
use crate::kho::addr::{Order, PageRange, Pfn, PhysAddr};
use crate::kho::incoming::Incoming;
use crate::kho::outgoing::Outgoing;
use crate::memfd_luo::format::{Header, Record, Refusal};
use crate::memfd_luo::preserve::{self, About};
use crate::memfd_luo::retrieve::Waiting;
use crate::memfd_luo::{Folio, Kho, Run, Sink, Source, BATCH};
use crate::sys::error::{Result, EINVAL, ENOMEM};
use crate::sys::machine::{with, Owner};
use crate::sys::{pages, Frame};

impl Kho for Kernel {
    fn outgoing<T>(&mut self, f: impl FnOnce(&mut Outgoing) -> Result<T>) -> Result<T> {
        f(&mut self.out)
    }

    fn incoming<T>(&mut self, f: impl FnOnce(&mut Incoming) -> Result<T>) -> Result<T> {
        f(self.incoming.as_mut().ok_or(EINVAL)?)
    }
}

/// A memfd: folios by their place.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) folios: BTreeMap<u64, (Pfn, Order)>,
    pub(super) size: u64,
    pub(super) pinned: i64,
    /// Most folios that one call pins.
    pub(super) most: usize,
    /// The call that fails, counted down.
    pub(super) fails_in: Option<u64>,
    pub(super) published: bool,
    /// Whether somebody may have folios of it that was not published.
    pub(super) shared: bool,
    pub(super) expected: u64,
    /// Whether holes are filled by who asks for what is there.
    pub(super) fills: bool,
    /// Pages that are in swap.
    pub(super) away: BTreeSet<u64>,
    /// Folios somebody has a reference to, by their places.
    pub(super) held: BTreeSet<u64>,
    /// What others do between one look at the file's figures and the next.
    pub(super) meanwhile: VecDeque<Move>,
    /// Frames that are bad.
    pub(super) bad: BTreeSet<u64>,
}

/// What somebody else does to a page of a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Move {
    /// Writes to it, which fills a hole, or brings it in.
    Write(u64),
    /// Reclaims it.
    Reclaim(u64),
    /// Makes one folio of the four pages around it, holes or not.
    Collapse(u64),
    /// Moves it to another frame.
    Migrate(u64),
    /// Takes its folio apart.
    Split(u64),
}

impl Move {
    /// Whether it brings no page into the file that was not there.
    pub(super) fn keeps_holes(self, file: &File) -> bool {
        match self {
            Self::Write(page) => file.away.contains(&page),
            Self::Collapse(_) => false,
            _ => true,
        }
    }
}

impl File {
    /// A file of folios of these orders; after each comes a gap of so many pages in memory, and it
    /// starts at the next place that is aligned.
    pub(super) fn new(shape: &[(u32, u64)], cut: u64, most: usize) -> Self {
        let mut file = Self {
            most,
            ..Self::default()
        };
        let mut gaps = Vec::new();
        let mut next = 0u64;
        for &(order, gap) in shape {
            let order = Order::new(order).expect("small");
            // Holes are filled: a file has none where it is preserved.
            while next % order.pages() != 0 {
                file.add(&mut next, Order::ZERO);
            }
            file.add(&mut next, order);
            gaps.extend((0..gap).map(|_| pages::alloc_folio(Order::ZERO).expect("memory")));
        }
        for gap in gaps {
            pages::free_folio(PageRange::new(gap, 1));
        }
        file.size = (next * 4096).saturating_sub(cut % 4096);
        file
    }

    pub(super) fn add(&mut self, next: &mut u64, order: Order) {
        self.try_add(next, order).expect("memory");
    }

    /// Who writes, reclaims, collapses, migrates or splits can do nothing to folios that are held.
    pub(super) fn play(&mut self, step: Move) {
        match step {
            Move::Write(page) if page < self.size / 4096 && self.is_hole(page) => {
                self.away.remove(&page);
                self.add(&mut { page }, Order::ZERO);
            }
            Move::Reclaim(page) => {
                if self.is_free(page) && self.folios[&page].1 == Order::ZERO {
                    self.drop_folio(page);
                    self.away.insert(page);
                }
            }
            Move::Collapse(page) => {
                let first = page & !3;
                let free = |file: &Self, page| file.is_hole(page) || file.is_free(page);
                if first + 4 > self.size / 4096 || !(first..first + 4).all(|p| free(self, p)) {
                    return;
                }
                for page in first..first + 4 {
                    self.away.remove(&page);
                    if self.folios.contains_key(&page) {
                        self.drop_folio(page);
                    }
                }
                self.add(&mut { first }, Order::new(2).expect("small"));
            }
            Move::Migrate(page) if self.is_free(page) => {
                let order = self.folios[&page].1;
                self.drop_folio(page);
                self.add(&mut { page }, order);
            }
            Move::Split(page) if self.is_free(page) => {
                let (pfn, order) = self.folios[&page];
                for n in 0..order.pages() {
                    self.folios.insert(page + n, (pfn.plus(n), Order::ZERO));
                }
            }
            _ => {}
        }
    }

    /// Whether a folio of the size of a page or of a collapse begins there, and nobody holds it.
    fn is_free(&self, page: u64) -> bool {
        self.folios.contains_key(&page) && !self.held.contains(&page)
    }

    fn drop_folio(&mut self, page: u64) {
        let (pfn, order) = self.folios.remove(&page).expect("it is there");
        pages::free_folio(PageRange::new(pfn, order.pages()));
    }

    /// Between two looks at the figures.
    fn others_act(&mut self) {
        if let Some(step) = self.meanwhile.pop_front() {
            self.play(step);
        }
    }

    fn try_add(&mut self, next: &mut u64, order: Order) -> Result {
        let pfn = pages::alloc_folio(order).ok_or(ENOMEM)?;
        for page in 0..order.pages() {
            let frame = Frame::at(pfn.plus(page).phys()).expect("RAM");
            frame.set_word(7, *next + page);
        }
        self.folios.insert(*next, (pfn, order));
        *next += order.pages();
        Ok(())
    }

    fn is_hole(&self, page: u64) -> bool {
        let before = self.folios.range(..=page).next_back();
        before.is_none_or(|(index, (_, order))| index + order.pages() <= page)
    }

    pub(super) fn frames(&self) -> impl Iterator<Item = u64> + '_ {
        let all = self.folios.values();
        all.flat_map(|(pfn, order)| pfn.raw()..pfn.raw() + order.pages())
    }

    pub(super) fn free(self) {
        for (pfn, order) in self.folios.values() {
            pages::free_folio(PageRange::new(*pfn, order.pages()));
        }
    }

    fn about(&self) -> About {
        About {
            pos: 3,
            size: self.size,
            seals: 0,
        }
    }

    fn step(&mut self) -> Result {
        match &mut self.fails_in {
            Some(0) => Err(ENOMEM),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Source for File {
    fn pin(&mut self, index: u64, end: u64, into: &mut [Folio; BATCH]) -> Result<usize> {
        self.step()?;
        while self.fills {
            // A hole is filled, or a page brought in, as far as one call looks.
            let Some(hole) =
                (index..end.min(index + BATCH as u64)).find(|page| self.is_hole(*page))
            else {
                break;
            };
            self.try_add(&mut { hole }, Order::ZERO)?;
        }
        for page in self.away.range(index..end).copied().collect::<Vec<_>>() {
            self.play(Move::Write(page));
        }
        let found = self.folios.range(index..end).take(self.most.min(BATCH));
        let mut count = 0;
        for (to, (index, (pfn, order))) in into.iter_mut().zip(found) {
            *to = Folio {
                pfn: *pfn,
                index: *index,
                order: *order,
            };
            count += 1;
        }
        self.pinned += count as i64;
        let held = into.iter().take(count).map(|folio| folio.index);
        self.held.extend(held);
        Ok(count)
    }

    fn pin_present(
        &mut self,
        index: &mut u64,
        end: u64,
        into: &mut [Folio; BATCH],
    ) -> Result<usize> {
        let fills = std::mem::replace(&mut self.fills, false);
        let count = self.pin(*index, end, into);
        self.fills = fills;
        let count = count?;
        if count == 0 {
            *index = end;
        }
        Ok(count)
    }

    fn in_memory(&mut self) -> u64 {
        self.others_act();
        self.frames().count() as u64
    }

    fn swapped(&mut self) -> u64 {
        self.others_act();
        self.away.len() as u64
    }

    fn charged(&mut self) -> u64 {
        self.others_act();
        (self.frames().count() + self.away.len()) as u64
    }

    fn any_bad(&mut self, run: &Run) -> bool {
        let frames = run.pfn.raw()..run.pfn.raw() + run.pages();
        self.bad.range(frames).next().is_some()
    }

    fn unpin_run(&mut self, run: &Run) {
        self.pinned -= run.count as i64;
        for number in 0..run.count {
            assert!(self.held.remove(&(run.index + (number << run.order.raw()))));
        }
    }

    fn orders(&mut self, folios: &mut [Folio]) {
        for folio in folios {
            let (pfn, order) = self.folios[&folio.index];
            assert_eq!(pfn, folio.pfn);
            folio.order = order;
        }
    }

    fn unpin(&mut self, folios: &[Folio]) {
        self.pinned -= folios.len() as i64;
        for folio in folios {
            assert!(self.held.remove(&folio.index));
        }
    }
}

impl Sink for File {
    fn expect(&mut self, pages: u64) {
        self.expected = pages;
    }

    fn is_shared(&self) -> bool {
        self.shared
    }

    fn fill(&mut self, runs: &[Run]) -> Result {
        self.step()?;
        for run in runs {
            assert!(run.count > 0);
            pages::give_out_pages(PageRange::new(run.pfn, run.pages()));
            for number in 0..run.count {
                let apart = number << run.order.raw();
                let index = run.index + apart;
                assert_eq!(index % run.order.pages(), 0);
                let old = self.folios.insert(index, (run.pfn.plus(apart), run.order));
                assert!(old.is_none(), "two folios at page {index}");
            }
        }
        Ok(())
    }

    fn take_back(&mut self, folios: &mut [Folio]) {
        assert!(!self.shared);
        for folio in folios {
            let (pfn, order) = self.folios.remove(&folio.index).expect("it is there");
            assert_eq!(pfn, folio.pfn);
            folio.order = order;
            let frames = PageRange::new(pfn, order.pages());
            with(|m| m.change(frames, &[Owner::Kernel], Owner::Waiting, "take back"));
        }
    }

    fn zones(&self) -> fn(u64) -> u32 {
        |_| 0
    }

    fn publish(&mut self, pages: u64) -> Result {
        self.step()?;
        assert_eq!(pages, self.frames().count() as u64);
        assert!(pages <= self.expected);
        self.published = true;
        Ok(())
    }
}

/// The frames that a preserved file needs besides its folios: header, records and their list.
pub(super) fn metadata(at: PhysAddr) -> Vec<u64> {
    let header = Header::load(Frame::at(at).expect("our own"));
    let mut frames = vec![at.pfn().raw()];
    let mut chunk = header.records.first;
    while let Some(frame) = Frame::at(chunk) {
        frames.push(chunk.pfn().raw());
        let entries = (1..512).map(|word| frame.word(word));
        frames.extend(entries.take_while(|e| *e != 0).map(|e| e >> 12));
        chunk = PhysAddr::new(frame.word(0));
    }
    frames
}

/// Preserves files and replaces the kernel. Says where the headers are.
fn update(mut kernel: Kernel, files: &mut [File]) -> (Kernel, Vec<PhysAddr>) {
    let (handed, headers) = hand_over(&mut kernel, files);
    let (kernel, refused) = Kernel::warm(kernel.kexec(&handed));
    assert!(refused.is_none(), "{refused:?}");
    (kernel, headers)
}

fn hand_over(kernel: &mut Kernel, files: &mut [File]) -> (Vec<u64>, Vec<PhysAddr>) {
    let (mut frames, mut headers) = (Vec::new(), Vec::new());
    for file in files {
        let about = file.about();
        let at = preserve::preserve(kernel, file, about).expect("memory");
        assert_eq!(file.pinned, file.folios.len() as i64);
        frames.extend(file.frames());
        frames.extend(metadata(at));
        headers.push(at);
    }
    (frames, headers)
}

/// A preserved file with folios of two orders and a hole of a page: its header, and its folios.
/// What follows it in memory does not.
pub(super) fn a_file_handed_over(kernel: &mut Kernel) -> (PhysAddr, Vec<PhysAddr>) {
    let mut file = File::new(&[(0, 1), (0, 0), (2, 0)], 100, BATCH);
    let about = About {
        pos: 3,
        size: file.size,
        seals: 0x2a,
    };
    let header = preserve::preserve(kernel, &mut file, about).expect("memory");
    let folios = file.folios.values().map(|(pfn, _)| pfn.phys()).collect();
    (header, folios)
}

/// Asks for a file; one that comes is whole.
fn retrieve(kernel: &mut Kernel, at: PhysAddr, fails_in: Option<u64>) -> Result<File, Refusal> {
    retrieve_in(kernel, at, 9, fails_in)
}

/// The same, in a kernel whose largest folios are of order `most`.
fn retrieve_in(
    kernel: &mut Kernel,
    at: PhysAddr,
    most: u32,
    fails_in: Option<u64>,
) -> Result<File, Refusal> {
    let waiting = Waiting::claim(kernel, at)?;
    let mut file = File {
        size: waiting.header().size,
        fails_in,
        ..File::default()
    };
    let most = Order::new(most).expect("small");
    let done = waiting.retrieve(kernel, &mut file, most);
    if done.is_err() {
        assert!(file.folios.is_empty(), "it was undone");
    }
    done.map(|()| file)
}

fn waiting() -> u64 {
    with(|m| m.count(Owner::Waiting))
}

fn a_shape() -> impl Strategy<Value = Vec<(u32, u64)>> {
    let folio = (
        prop_oneof![4 => Just(0u32), 1 => 1u32..5],
        prop_oneof![6 => Just(0u64), 1 => 1u64..3],
    );
    proptest::collection::vec(folio, 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_comes_back(shape in a_shape(), cut in 0u64..4096, most in 1usize..=BATCH) {
        let kernel = Kernel::cold(small_machine());
        let mut file = File::new(&shape, cut, most);
        let expected = file.folios.clone();
        let (mut kernel, headers) = update(kernel, std::slice::from_mut(&mut file));
        let (before, owned_before) = (waiting(), owned());
        let back = retrieve(&mut kernel, headers[0], None).expect("nothing is wrong");
        prop_assert!(back.published);
        prop_assert_eq!(&back.folios, &expected);
        prop_assert_eq!(back.size, file.size);
        for (index, (pfn, order)) in &back.folios {
            for page in 0..order.pages() {
                let frame = Frame::at(pfn.plus(page).phys()).expect("RAM");
                prop_assert_eq!(frame.word(7), index + page);
            }
        }
        // Once only; and nothing but the tree's root and the FDT waits any more.
        prop_assert!(retrieve(&mut kernel, headers[0], None).is_err());
        prop_assert!(waiting() <= 2 && before >= waiting());
        back.free();
        prop_assert_eq!(owned(), owned_before);
    }

    #[test]
    fn a_failure_after_the_update_is_undone(shape in a_shape(), nth in 0u64..12) {
        let kernel = Kernel::cold(small_machine());
        let mut file = File::new(&shape, 0, BATCH);
        let expected = file.folios.clone();
        let (mut kernel, headers) = update(kernel, std::slice::from_mut(&mut file));
        let before = waiting();
        if let Err(refusal) = retrieve(&mut kernel, headers[0], Some(nth)) {
            prop_assert_eq!(refusal.error, ENOMEM);
            prop_assert_eq!(waiting(), before);
            let back = retrieve(&mut kernel, headers[0], None).expect("as if nothing had been");
            prop_assert_eq!(back.folios, expected);
        }
        prop_assert!(waiting() <= 2);
    }

    /// Its folios are cut there; what cannot be had waits as it was, for whoever can have it.
    #[test]
    fn a_kernel_with_smaller_folios_takes_a_file(shape in a_shape(), most in 0u32..4, nth in 0u64..12) {
        let kernel = Kernel::cold(small_machine());
        let mut file = File::new(&shape, 0, BATCH);
        let expected: Vec<u64> = file.frames().collect();
        let (mut kernel, headers) = update(kernel, std::slice::from_mut(&mut file));
        let before = waiting();
        let back = retrieve_in(&mut kernel, headers[0], most, Some(nth)).or_else(|refusal| {
            assert_eq!((refusal.error, waiting()), (ENOMEM, before));
            retrieve_in(&mut kernel, headers[0], most, None)
        });
        let back = back.expect("as if nothing had been");
        prop_assert_eq!(back.frames().collect::<Vec<_>>(), expected);
        prop_assert!(back.folios.values().all(|(_, order)| order.raw() <= most));
        prop_assert!(waiting() <= 2);
    }

    /// Once folios may be in swap there is no way back: what is in the file dies with it, and
    /// nobody gets the rest.
    #[test]
    fn what_cannot_be_undone_stays_out_of_use(shape in a_shape(), most in 0u32..4, nth in 0u64..12) {
        let kernel = Kernel::cold(small_machine());
        let mut file = File::new(&shape, 0, BATCH);
        let (mut kernel, headers) = update(kernel, std::slice::from_mut(&mut file));
        let claimed = Waiting::claim(&mut kernel, headers[0]).expect("it is there");
        let mut back = File { shared: true, fails_in: Some(nth), ..File::default() };
        let done = claimed.retrieve(&mut kernel, &mut back, Order::new(most).expect("small"));
        back.free();
        if done.is_err() && !shape.is_empty() {
            let claimed = Waiting::claim(&mut kernel, headers[0]).expect("it waits");
            prop_assert!(claimed.discard(&mut kernel).is_err());
        }
    }

    #[test]
    fn a_file_nobody_wants_is_freed(shape in a_shape()) {
        let kernel = Kernel::cold(small_machine());
        let mut file = File::new(&shape, 0, BATCH);
        let (mut kernel, headers) = update(kernel, std::slice::from_mut(&mut file));
        let owned_before = owned();
        let given_up = Waiting::claim(&mut kernel, headers[0]).expect("it is there");
        given_up.discard(&mut kernel).expect("nothing is wrong");
        prop_assert!(waiting() <= 2);
        prop_assert_eq!(owned(), owned_before);
    }

    /// Words of header, records or list say anything: the file comes or is refused, nobody gets
    /// memory that somebody else has, and a file beside it is not touched unless the lie named it.
    #[test]
    fn lies_cost_the_liar_only(
        shape in a_shape(),
        lies in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..512, a_lie()), 1..4),
        first in any::<bool>(),
    ) {
        let mut kernel = Kernel::cold(small_machine());
        let mut files = [File::new(&shape, 9, BATCH), File::new(&[(0, 0), (3, 1), (0, 0)], 0, 5)];
        let (handed, headers) = hand_over(&mut kernel, &mut files);
        let places = metadata(headers[0]);
        let neighbours: Vec<u64> = files[1].frames().collect();
        let handed: Handed = kernel.kexec(&handed);
        for (place, word, lie) in lies {
            // Headers are six words, and records often few.
            let page = *place.get(&places);
            let word = if page == places[0] { word % 6 } else { word };
            let at = Pfn::new(page).phys();
            let old = with(|m| m.peek(at, word));
            with(|m| m.poke(at, word, lie.apply(old, &places, &neighbours)));
        }
        let (mut kernel, refused) = Kernel::warm(handed);
        prop_assert!(refused.is_none());
        let before = waiting();
        let mut honest = None;
        if first {
            honest = Some(retrieve(&mut kernel, headers[1], None).expect("before the liar"));
        }
        let before = if first { waiting() } else { before };
        match retrieve(&mut kernel, headers[0], None) {
            Ok(file) => prop_assert!(file.folios.len() <= files[0].folios.len() + 512),
            Err(_) => {
                prop_assert_eq!(waiting(), before);
                if let Ok(liar) = Waiting::claim(&mut kernel, headers[0]) {
                    let _ = liar.discard(&mut kernel);
                }
            }
        }
        if let Some(honest) = honest {
            prop_assert_eq!(honest.folios, files[1].folios.clone());
        } else {
            // It may have been robbed, since nothing says whose a folio is; it is never shared.
            let _ = retrieve(&mut kernel, headers[1], None);
        }
    }

    #[test]
    fn any_header_is_judged(words in proptest::array::uniform6(any::<u64>())) {
        let page = Frame::at(pages::alloc_folio(Order::ZERO).expect("memory").phys()).expect("RAM");
        for (index, word) in words.iter().enumerate() {
            page.set_word(index, *word);
        }
        let header = Header::load(page);
        let judged = header.judge();
        if judged.is_ok() {
            prop_assert!(header.folios <= header.pages() && header.seals < 64 && header.flags == 0);
            prop_assert!(header.folios.div_ceil(256) <= u64::from(header.records.total_pages));
        }
        header.store(page);
        for (index, word) in words.iter().enumerate() {
            prop_assert_eq!(page.word(index), *word);
        }
        pages::free_folio(PageRange::new(page.phys().pfn(), 1));
    }

    #[test]
    fn any_record_is_decoded(words in proptest::array::uniform2(any::<u64>())) {
        match Record::decode(words) {
            Some(record) => prop_assert_eq!(record.encode(), words),
            None => prop_assert_eq!(words[0] & ((1 << 52) - 1), 0),
        }
    }
}

/// What a word is replaced with.
#[derive(Clone, Copy, Debug)]
enum Lie {
    Word(u64),
    Flip(u32),
    /// A frame of the file's own metadata, or of the other file: as an address, or in a record.
    Metadata(usize, bool),
    Neighbour(usize, bool),
}

fn a_lie() -> impl Strategy<Value = Lie> {
    prop_oneof![
        any::<u64>().prop_map(Lie::Word),
        (0u64..8300).prop_map(Lie::Word),
        (0u32..64).prop_map(Lie::Flip),
        any::<(usize, bool)>().prop_map(|(n, record)| Lie::Metadata(n, record)),
        any::<(usize, bool)>().prop_map(|(n, record)| Lie::Neighbour(n, record)),
    ]
}

impl Lie {
    fn apply(self, old: u64, metadata: &[u64], neighbours: &[u64]) -> u64 {
        let frame = |frames: &[u64], n: usize, record: bool| {
            let pfn = frames[n % frames.len()];
            if record {
                pfn | 3 << 52
            } else {
                pfn << 12
            }
        };
        match self {
            Self::Word(word) => word,
            Self::Flip(bit) => old ^ 1 << bit,
            Self::Metadata(n, record) => frame(metadata, n, record),
            Self::Neighbour(n, record) => frame(neighbours, n, record),
        }
    }
}

/// Every allocation fails once, and every pin; then it works.
#[test]
fn a_failure_before_the_update_is_undone() {
    let mut kernel = Kernel::cold(small_machine());
    let shape: Vec<(u32, u64)> = (0..300).map(|n| (u32::from(n % 90 == 0), n % 7)).collect();
    let mut file = File::new(&shape, 0, 50);
    let before = owned();
    for pins in [false, true] {
        let mut nth = 0;
        loop {
            if pins {
                file.fails_in = Some(nth);
            } else {
                with(|m| m.faults.nth = Some(m.allocations() + nth));
            }
            let about = file.about();
            let done = preserve::preserve(&mut kernel, &mut file, about);
            with(|m| m.faults.nth = None);
            file.fails_in = None;
            if let Ok(at) = done {
                preserve::unpreserve(&mut kernel, &mut file, at);
                assert_eq!((owned(), file.pinned), (before, 0));
                break;
            }
            assert_eq!(done, Err(ENOMEM));
            assert_eq!((owned(), file.pinned), (before, 0), "failure {nth}");
            nth += 1;
        }
        assert!(nth > 4, "only {nth} failures");
    }
}

/// Position and seals are those of the last moment.
#[test]
fn what_changes_until_the_kexec_is_recorded() {
    let kernel = Kernel::cold(small_machine());
    let mut file = File::new(&[(0, 0)], 1, 1);
    let mut kernel = kernel;
    let about = file.about();
    let at = preserve::preserve(&mut kernel, &mut file, about).expect("memory");
    preserve::freeze(at, 77, 9).expect("it is there");
    let header = Header::load(Frame::at(at).expect("our own"));
    assert_eq!((header.pos, header.seals, header.size), (77, 9, 4095));
}

/// The bytes, as include/linux/kho/abi/memfd.h lays them out.
#[test]
fn the_bytes_are_mainlines() {
    let mut kernel = Kernel::cold(small_machine());
    let mut file = File::new(&[(0, 0), (0, 0), (1, 0)], 0x123, BATCH);
    let about = About {
        pos: 0x1122_3344_5566_7788,
        size: file.size,
        seals: 0x2f,
    };
    let at = preserve::preserve(&mut kernel, &mut file, about).expect("memory");
    let page = Frame::at(at).expect("our own");
    let header = Header::load(page);
    let list = Frame::at(header.records.first).expect("our own");
    assert_eq!(page.word(0), 0x1122_3344_5566_7788);
    assert_eq!(page.word(1), 4 * 4096 - 0x123);
    assert_eq!(page.word(2), 0x2f);
    assert_eq!(page.word(3), 3);
    assert_eq!(page.word(4), list.phys().raw());
    assert_eq!(page.word(5), 1 | 1 << 32, "a page, VM_ALLOC, order 0");
    let records = Frame::at(PhysAddr::new(list.word(1))).expect("our own");
    for (number, (index, (pfn, _))) in file.folios.iter().enumerate() {
        assert_eq!(records.word(2 * number), pfn.raw() | 3 << 52);
        assert_eq!(records.word(2 * number + 1), *index);
    }
    assert_eq!((list.word(0), list.word(2), records.word(6)), (0, 0, 0));
}

/// Each refusal has its errno, and leaves the file for a kernel that knows more.
#[test]
fn what_is_unknown_or_impossible_is_refused() {
    use crate::sys::error::EOPNOTSUPP;
    for (word, value, error) in [
        (0, 1u64 << 63, EINVAL),
        (1, 1 << 63, EINVAL),
        (2, 0x40, EOPNOTSUPP),
        (2, 1 << 32, EOPNOTSUPP),
        (3, 3, EINVAL),
        (4, 0x1000, EINVAL),
        (5, 2 | 1 << 32, EINVAL),
    ] {
        let kernel = Kernel::cold(small_machine());
        let mut file = File::new(&[(0, 0), (0, 0)], 0, BATCH);
        let (mut kernel, headers) = update(kernel, std::slice::from_mut(&mut file));
        let old = with(|m| m.peek(headers[0], word));
        let before = waiting();
        with(|m| m.poke(headers[0], word, value));
        let refused = retrieve(&mut kernel, headers[0], None).expect_err("it lies");
        assert_eq!(refused.error, error, "word {word}: {}", refused.why);
        assert_eq!(waiting(), before);
        with(|m| m.poke(headers[0], word, old));
        retrieve(&mut kernel, headers[0], None).expect("whole again");
    }
}
