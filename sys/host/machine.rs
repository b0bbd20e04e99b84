// SPDX-License-Identifier: GPL-2.0

//! The simulated machine's memory: who owns each frame, and what may be done with it.
//!
//! Rules that real hardware does not enforce are enforced here, and a breach panics with the
//! history that led there: reading a frame nobody allocated or handed over, giving a frame to a
//! second owner, freeing one that is not owned, reserving memory that is in use.
//!
//! What a frame holds is kept only from when it is first written: until then, and again after a
//! kexec that did not preserve it, it reads as poison. So an update costs what it touches, however
//! large the machine.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};

use super::faults::Faults;
use crate::sys::addr::{PageRange, Pfn, PhysAddr};
use crate::sys::FRAME_WORDS;

/// Events remembered for the report of a breach.
const HISTORY: usize = 64;

/// What each word of a frame reads as that was not written since the last kexec.
const POISON: u64 = 0xdead_beef_dead_beef;

/// The words of a frame.
pub(crate) type Words = [u64; FRAME_WORDS];

/// Who has a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Free: the page allocator's, or memblock's before it.
    Nobody,
    /// Reserved in early boot.
    Boot,
    /// Allocated by this kernel, or given out to it.
    Kernel,
    /// Left by the previous kernel; not known to this one yet.
    Left,
    /// Reserved and initialised, waiting to be given out or freed.
    Waiting,
}

/// Memory layout of a machine.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Frames of each NUMA node, one after the other, from frame 0.
    pub(crate) nodes: Vec<u64>,
    /// Frames at the start that are no RAM.
    pub(crate) hole: u64,
}

/// Something that happened to frames.
struct Event {
    what: &'static str,
    start: u64,
    pages: u64,
}

pub(crate) struct Machine {
    /// What the frames hold; `None`: poison.
    contents: Vec<Option<Box<Words>>>,
    /// Memory for contents.
    spare: Vec<Box<Words>>,
    /// What each word of poison is.
    pub(crate) blank: u64,
    pub(crate) config: Config,
    owners: Vec<Owner>,
    /// The number of the allocation that each frame was last given out by.
    given: Vec<u32>,
    /// What is noted in struct pages.
    pub(crate) notes: Vec<u64>,
    /// Frames of bad memory.
    pub(crate) bad: BTreeSet<u64>,
    scratch: Vec<bool>,
    /// What early allocations may use while scratch only.
    open: Vec<bool>,
    pub(crate) scratch_only: bool,
    /// Frames at the end that were added while this kernel ran.
    pub(crate) added: u64,
    /// Frames at the end that this kernel does not know of: they were added while an earlier one
    /// ran.
    pub(crate) gone: u64,
    pub(crate) slab: bool,
    /// The CPU that runs.
    pub(crate) cpu: usize,
    /// What was handed over may be wrong on purpose. Before the page allocator runs, a boot that
    /// has yet to find that out may read free memory, and finds poison there.
    pub(crate) hostile: bool,
    allocations: u64,
    /// Words read and written, and allocations, since somebody took the count.
    pub(crate) work: u64,
    pub(crate) faults: Faults,
    /// Where the next search for free frames starts.
    next: u64,
    log: Vec<String>,
    history: VecDeque<Event>,
}

thread_local! {
    /// Never freed: what has no destructor is found faster, and every access comes by here.
    static MACHINE: Cell<Option<&'static RefCell<Machine>>> = const { Cell::new(None) };
}

/// Puts a new machine, with the page allocator running, in place of this thread's.
pub(crate) fn install(config: Config) {
    let Some(machine) = MACHINE.get() else {
        let machine = RefCell::new(Machine::new(config, Vec::new()));
        return MACHINE.set(Some(Box::leak(Box::new(machine))));
    };
    let mut old = machine.borrow_mut();
    let spare = old.scrap();
    *old = Machine::new(config, spare);
}

/// Runs `f` on this thread's machine; makes a small one if there is none.
#[inline]
pub(crate) fn with<T>(f: impl FnOnce(&mut Machine) -> T) -> T {
    while MACHINE.get().is_none() {
        let (nodes, hole) = (vec![4096], 16);
        install(Config { nodes, hole });
    }
    MACHINE.with(|machine| f(&mut machine.get().expect("installed").borrow_mut()))
}

/// Adds a line to the machine's log.
pub(crate) fn log(line: String) {
    with(|m| m.log.push(line));
}

impl Machine {
    fn new(config: Config, spare: Vec<Box<Words>>) -> Self {
        let frames = config.nodes.iter().sum::<u64>() as usize;
        let mut machine = Self {
            contents: vec![None; frames],
            spare,
            blank: POISON,
            owners: vec![Owner::Nobody; frames],
            given: vec![0; frames],
            notes: vec![0; frames],
            bad: BTreeSet::new(),
            scratch: vec![false; frames],
            open: vec![false; frames],
            scratch_only: false,
            added: 0,
            gone: 0,
            slab: true,
            cpu: 0,
            hostile: false,
            allocations: 0,
            work: 0,
            faults: Faults::default(),
            next: config.hole,
            log: Vec::new(),
            history: VecDeque::new(),
            config,
        };
        machine.note("cold boot", 0, 0);
        machine
    }

    /// Memory that another machine can use.
    fn scrap(&mut self) -> Vec<Box<Words>> {
        self.spare.extend(self.contents.drain(..).flatten());
        std::mem::take(&mut self.spare)
    }

    pub(crate) fn frames(&self) -> u64 {
        self.owners.len() as u64
    }

    /// Lines logged since the last call.
    pub(crate) fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    /// Allocations asked for so far.
    pub(crate) fn allocations(&self) -> u64 {
        self.allocations
    }

    fn note(&mut self, what: &'static str, start: u64, pages: u64) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Event { what, start, pages });
    }

    fn breach(&self, what: &str, pfn: u64) -> ! {
        let owner = self.owners.get(pfn as usize);
        let mut history = String::new();
        for Event { what, start, pages } in &self.history {
            history += &format!("\n  {what}: {start:#x}+{pages:#x}");
        }
        panic!("{what}: frame {pfn:#x}, owner {owner:?}\nhistory:{history}");
    }

    pub(crate) fn owner(&self, pfn: u64) -> Owner {
        match self.owners.get(pfn as usize) {
            Some(owner) => *owner,
            None => self.breach("no such frame", pfn),
        }
    }

    pub(crate) fn is_ram(&self, range: PageRange) -> bool {
        range.start.raw() >= self.config.hole && range.end.raw() <= self.frames() - self.gone
    }

    /// The NUMA node of a frame.
    pub(crate) fn node_of(&self, pfn: u64) -> usize {
        let mut end = 0;
        for (node, frames) in self.config.nodes.iter().enumerate() {
            end += frames;
            if pfn < end {
                return node;
            }
        }
        self.breach("no such frame", pfn)
    }

    pub(crate) fn node_range(&self, node: usize) -> PageRange {
        let start: u64 = self.config.nodes.iter().take(node).sum();
        PageRange::new(
            Pfn::new(start),
            self.config.nodes.get(node).copied().unwrap_or(0),
        )
    }

    /// What a frame holds, for writing, whoever owns it: for the test that plays the hardware.
    pub(crate) fn words_mut(&mut self, pfn: u64) -> &mut Words {
        if pfn >= self.frames() {
            self.breach("no such frame", pfn);
        }
        let (spare, blank) = (&mut self.spare, self.blank);
        self.contents[pfn as usize].get_or_insert_with(|| {
            let mut words = spare.pop().unwrap_or_else(|| Box::new([0; FRAME_WORDS]));
            words.fill(blank);
            words
        })
    }

    /// A word of memory, whoever owns it.
    pub(crate) fn peek(&self, at: PhysAddr, word: usize) -> u64 {
        let pfn = at.pfn().raw();
        match self.contents.get(pfn as usize) {
            Some(words) => words.as_ref().map_or(self.blank, |words| words[word]),
            None => self.breach("no such frame", pfn),
        }
    }

    /// Overwrites a word of memory, whoever owns it.
    pub(crate) fn poke(&mut self, at: PhysAddr, word: usize, value: u64) {
        self.words_mut(at.pfn().raw())[word] = value;
    }

    /// Access checks of a read or write by the kernel that runs.
    pub(crate) fn check_access(&self, pfn: u64, write: bool) {
        if self.owner(pfn) == Owner::Nobody && (self.slab || !self.hostile || write) {
            self.breach("access to memory that nobody owns", pfn);
        }
    }

    /// Hands frames from one owner to another.
    pub(crate) fn change(
        &mut self,
        range: PageRange,
        from: &[Owner],
        to: Owner,
        why: &'static str,
    ) {
        self.note(why, range.start.raw(), range.pages());
        for pfn in range.start.raw()..range.end.raw() {
            if !from.contains(&self.owner(pfn)) {
                self.breach(why, pfn);
            }
            self.owners[pfn as usize] = to;
        }
    }

    fn zero(&mut self, range: PageRange) {
        (range.start.raw()..range.end.raw()).for_each(|pfn| self.words_mut(pfn).fill(0));
    }

    /// What was there is lost.
    fn poison(&mut self, pfn: u64) {
        self.spare.extend(self.contents[pfn as usize].take());
    }

    pub(crate) fn in_scratch(&self, pfn: u64) -> bool {
        self.scratch.get(pfn as usize).copied().unwrap_or(false)
    }

    pub(crate) fn mark_scratch(&mut self, range: PageRange, scratch: bool) {
        for pfn in range.start.raw()..range.end.raw() {
            self.scratch[pfn as usize] = scratch;
            self.open[pfn as usize] = scratch;
        }
    }

    pub(crate) fn mark_open(&mut self, range: PageRange) {
        for pfn in range.start.raw().max(self.config.hole)..range.end.raw().min(self.frames()) {
            if self.owner(pfn) == Owner::Left && !self.hostile {
                self.breach("opened memory that the previous kernel left", pfn);
            }
            self.open[pfn as usize] = true;
        }
    }

    /// Whether an allocation that is asked for now fails.
    pub(crate) fn fails(&mut self, pages: u64) -> bool {
        let number = self.allocations;
        self.allocations += 1;
        self.work += 1;
        let fails = self.faults.hit(number, pages);
        if fails {
            self.note("failed allocation", 0, pages);
        }
        fails
    }

    /// Allocates zeroed frames, naturally aligned. Those that may be moved come from scratch first,
    /// as from a CMA area; the others never do.
    pub(crate) fn alloc(&mut self, order: u32, movable: bool) -> Option<u64> {
        let pages = 1 << order;
        if self.fails(pages) {
            return None;
        }
        let usable = |scratch: bool| {
            move |m: &Self, pfn: u64| {
                m.owner(pfn) == Owner::Nobody
                    && pfn >= m.config.hole
                    && m.in_scratch(pfn) == scratch
            }
        };
        let cma = movable.then(|| self.search(pages, pages, usable(true)));
        let start = match cma.flatten() {
            Some(start) => start,
            None => self.search(pages, pages, usable(false))?,
        };
        let range = PageRange::new(Pfn::new(start), pages);
        self.change(range, &[Owner::Nobody], Owner::Kernel, "allocate");
        self.zero(range);
        let number = self.allocations as u32 - 1;
        self.given[start as usize..(start + pages) as usize].fill(number);
        Some(start)
    }

    /// Reserves frames in early boot.
    pub(crate) fn boot_alloc(&mut self, pages: u64, align: u64, within: PageRange) -> Option<u64> {
        if self.fails(pages) {
            return None;
        }
        let usable = |m: &Self, pfn: u64| {
            m.owner(pfn) == Owner::Nobody
                && pfn >= m.config.hole
                && within.contains(PageRange::new(Pfn::new(pfn), 1))
                && (!m.scratch_only || m.open.get(pfn as usize) == Some(&true))
        };
        let start = self.search(pages, align, usable)?;
        let range = PageRange::new(Pfn::new(start), pages);
        self.change(range, &[Owner::Nobody], Owner::Boot, "reserve");
        self.zero(range);
        Some(start)
    }

    /// Reserves frames in early boot without regard to marks: what the previous kernel left is free
    /// to memblock as long as it is not reserved. The first there are, and what was left first of
    /// all.
    #[cfg(test)]
    pub(crate) fn boot_alloc_regardless(&mut self, pages: u64) -> Option<u64> {
        let (hole, total) = (self.config.hole, self.frames());
        let all = |owners: &'static [Owner]| {
            move |m: &Self, start: u64| {
                (start..start + pages).all(|pfn| owners.contains(&m.owner(pfn)))
            }
        };
        let (left, free) = (all(&[Owner::Left]), all(&[Owner::Left, Owner::Nobody]));
        let starts = || hole..(total + 1).saturating_sub(pages);
        let start = starts()
            .find(|&start| left(self, start))
            .or_else(|| starts().find(|&start| free(self, start)))?;
        let range = PageRange::new(Pfn::new(start), pages);
        self.change(range, &[Owner::Left, Owner::Nobody], Owner::Boot, "take");
        self.zero(range);
        Some(start)
    }

    /// The first run of usable frames from where the last search ended, then from the start.
    fn search(
        &mut self,
        pages: u64,
        align: u64,
        usable: impl Fn(&Self, u64) -> bool,
    ) -> Option<u64> {
        let total = self.frames() - self.gone;
        let from = self.next.next_multiple_of(align);
        let mut starts = (from..total)
            .chain(0..from.min(total))
            .step_by(align as usize);
        let found = starts.find(|&start| {
            start % align == 0
                && start + pages <= total
                && (start..start + pages).all(|pfn| usable(self, pfn))
        })?;
        self.next = found + pages;
        Some(found)
    }

    /// Has the next allocation come from a node, if that has memory.
    pub(crate) fn prefer(&mut self, node: usize) {
        let node = self.node_range(node);
        self.next = node.start.raw().max(self.config.hole);
    }

    /// Replaces the running kernel: what is in `left` stays, scratch is free, and everything else
    /// is poisoned. memblock runs again, the page allocator does not yet.
    pub(crate) fn kexec(&mut self, left: &[u64]) {
        self.note("kexec", 0, 0);
        self.owners.fill(Owner::Nobody);
        for &pfn in left {
            if self.in_scratch(pfn) {
                self.breach("kexec overwrites preserved memory in scratch", pfn);
            }
            self.owners[pfn as usize] = Owner::Left;
        }
        for pfn in 0..self.frames() {
            if self.owner(pfn) == Owner::Nobody {
                self.poison(pfn);
            }
        }
        self.scratch.fill(false);
        self.open.fill(false);
        self.notes.fill(0);
        self.scratch_only = false;
        self.gone = self.added;
        self.slab = false;
        self.next = self.config.hole;
    }

    /// The page allocator takes over: what memblock had allocated and not freed stays reserved.
    pub(crate) fn start_page_allocator(&mut self) {
        self.note("page allocator starts", 0, 0);
        self.slab = true;
        self.scratch_only = false;
        self.forget_left();
    }

    /// What the previous kernel left and was not taken over is free, as real memory would be.
    pub(crate) fn forget_left(&mut self) {
        for pfn in 0..self.frames() {
            if self.owner(pfn) == Owner::Left {
                self.owners[pfn as usize] = Owner::Nobody;
                self.poison(pfn);
            }
        }
    }

    /// How many frames have that owner.
    pub(crate) fn count(&self, owner: Owner) -> u64 {
        self.owners.iter().filter(|&&o| o == owner).count() as u64
    }

    /// The frames that have that owner, ascending, each with the number of the allocation it was
    /// last given out by.
    pub(crate) fn frames_of(&self, owner: Owner) -> Vec<(u64, u32)> {
        let all = self.owners.iter().zip(&self.given).zip(0..);
        all.filter(|((&have, _), _)| have == owner)
            .map(|((_, &number), pfn)| (pfn, number))
            .collect()
    }
}
