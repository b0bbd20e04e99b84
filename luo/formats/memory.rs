// SPDX-License-Identifier: GPL-2.0

//! What the next kernel's command line does to its memory, judged against what is preserved.
//!
//! | option | what it costs |
//! |---|---|
//! | `mem=LIMIT`, `memmap=LIMIT` | what lies above the limit |
//! | `memmap=exactmap` | all that no `memmap=SIZE@START` lists |
//! | `memmap=SIZE$START`, `#`, `!`, `%` | what lies there |
//! | `cma=SIZE@START` | what lies there: it is reserved before the tree is read |
//! | `crashkernel=SIZE@START` | itself: a crash kernel gets no memory that is not scratch |
//!
//! `memtest=`, `kho=` and `liveupdate=` cost everything, wherever it lies: they are
//! [switches](super::cmdline::Switches). `movable_node`, `kernelcore=` and `movablecore=` cost
//! nothing: what is preserved is reserved in whatever zone it is. Nor do `hugepages=`, of which
//! there are as many as what is not preserved has room for, and `kho_scratch=`, as scratch is
//! handed over too.

use super::cmdline::words;
use crate::kho::addr::{PageRange, Pfn};
use crate::kho::ram::Ram;
use crate::sys::error::{Result, E2BIG};
use crate::sys::log::Display;
use crate::sys::PAGE_SHIFT;

/// Options that are taken note of.
const MOST: usize = 10;

/// What one option does, in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// There is nothing from here on.
    Below(Pfn),
    /// There is nothing but what options after this one list.
    Exactly,
    /// There is memory here.
    There(PageRange),
    /// There is no memory here.
    Gone(PageRange),
}

/// An option that changes what memory there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    option: &'static str,
    effect: Effect,
}

impl Display for Change {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.option)?;
        match self.effect {
            Effect::Below(limit) => write!(f, " with a limit of {:#x}", limit.phys().raw()),
            Effect::Exactly => f.write_str("exactmap"),
            Effect::There(range) | Effect::Gone(range) => write!(
                f,
                " of {:#x}-{:#x}",
                range.start.phys().raw(),
                range.end.phys().raw()
            ),
        }
    }
}

/// What a command line does to memory, in the order it says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    list: [Option<Change>; MOST],
    /// Where a crash kernel is to be.
    crash: Option<PageRange>,
    /// There are more than can be taken note of.
    more: bool,
}

impl Changes {
    /// Reads a command line.
    pub(crate) fn parse(line: &[u8]) -> Self {
        let mut changes = Self::default();
        for (name, value) in words(line) {
            let Some(value) = value else { continue };
            match name {
                b"mem" => changes.limit("mem=", value),
                b"memmap" => value
                    .split(|byte| *byte == b',')
                    .for_each(|one| changes.memmap(one)),
                b"cma" => changes.cma(value),
                b"crashkernel" => changes.crash = place(value),
                _ => {}
            }
        }
        changes
    }

    fn push(&mut self, option: &'static str, effect: Effect) {
        match self.list.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(Change { option, effect }),
            None => self.more = true,
        }
    }

    fn limit(&mut self, option: &'static str, value: &[u8]) {
        if let Some((bytes, _)) = bytes(value) {
            if bytes != 0 {
                self.push(option, Effect::Below(Pfn::new(bytes >> PAGE_SHIFT)));
            }
        }
    }

    fn memmap(&mut self, value: &[u8]) {
        let option = "memmap=";
        if value.starts_with(b"exactmap") {
            return self.push(option, Effect::Exactly);
        }
        let Some((size, rest)) = bytes(value) else {
            return;
        };
        let Some((kind, rest)) = rest.split_first() else {
            return self.limit(option, value);
        };
        let Some((start, rest)) = bytes(rest) else {
            return;
        };
        match kind {
            b'@' => self.push(option, Effect::There(within(start, size))),
            // Made memory of whatever it was.
            b'%' if rest.ends_with(b"+1") => self.push(option, Effect::There(within(start, size))),
            b'$' | b'#' | b'!' | b'%' => self.push(option, Effect::Gone(around(start, size))),
            _ => {}
        }
    }

    /// With an end it is wherever there is room before that.
    fn cma(&mut self, value: &[u8]) {
        let Some((size, rest)) = bytes(value) else {
            return;
        };
        let Some((start, rest)) = rest.strip_prefix(b"@").and_then(bytes) else {
            return;
        };
        let end = rest.strip_prefix(b"-").and_then(bytes);
        if start != 0 && end.is_none_or(|(end, _)| end == start.saturating_add(size)) {
            self.push("cma=", Effect::Gone(around(start, size)));
        }
    }

    fn list(&self) -> impl Iterator<Item = &Change> {
        self.list.iter().flatten()
    }

    /// Where a crash kernel is to be, if anywhere in particular.
    pub(crate) fn crash(&self) -> Option<PageRange> {
        self.crash
    }

    /// Makes the memory that the next kernel has of that which is handed over.
    ///
    /// # Errors
    ///
    /// [`E2BIG`] when it becomes too many stretches, or there are too many options.
    pub(crate) fn apply(&self, ram: &mut Ram) -> Result {
        if self.more {
            return Err(E2BIG);
        }
        // What is taken off is, in whatever order it is said.
        for change in self.list() {
            match change.effect {
                Effect::Below(limit) => {
                    ram.remove(PageRange::between(limit, Pfn::new(Pfn::LIMIT)))?;
                }
                Effect::Exactly => ram.clear(),
                Effect::There(range) => ram.add(range)?,
                Effect::Gone(_) => {}
            }
        }
        let gone = self.list().filter_map(|change| match change.effect {
            Effect::Gone(range) => Some(range),
            _ => None,
        });
        gone.into_iter().try_for_each(|range| ram.remove(range))
    }

    /// The option that takes a frame off which would be there without it.
    pub(crate) fn culprit(&self, at: Pfn) -> Option<&Change> {
        let holds = |range: PageRange| range.contains(PageRange::new(at, 1));
        let mut culprit = None;
        for change in self.list() {
            match change.effect {
                Effect::Below(limit) if at >= limit => culprit = culprit.or(Some(change)),
                Effect::Exactly => culprit = Some(change),
                Effect::There(range) if holds(range) => culprit = None,
                _ => {}
            }
        }
        let gone = |change: &&Change| matches!(change.effect, Effect::Gone(range) if holds(range));
        self.list().find(gone).or(culprit)
    }
}

/// The frames of `SIZE@START`.
fn place(value: &[u8]) -> Option<PageRange> {
    let (size, rest) = bytes(value)?;
    let (start, _) = rest.strip_prefix(b"@").and_then(bytes)?;
    Some(around(start, size)).filter(|range| !range.is_empty())
}

/// All the frames that some bytes are in.
fn around(start: u64, size: u64) -> PageRange {
    let end = start.saturating_add(size);
    let page = 1 << PAGE_SHIFT;
    PageRange::between(Pfn::new(start >> PAGE_SHIFT), Pfn::new(end.div_ceil(page)))
}

/// The frames that are made up of some bytes.
fn within(start: u64, size: u64) -> PageRange {
    let end = start.saturating_add(size);
    let page = 1 << PAGE_SHIFT;
    PageRange::between(Pfn::new(start.div_ceil(page)), Pfn::new(end >> PAGE_SHIFT))
}

/// A number of bytes at the beginning of a text, and what follows it: in base 8, 10 or 16, with a
/// suffix for a unit.
fn bytes(text: &[u8]) -> Option<(u64, &[u8])> {
    let (base, digits) = match text {
        [b'0', b'x' | b'X', rest @ ..] => (16, rest),
        [b'0', ..] => (8, text),
        _ => (10, text),
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(base).map(u64::from);
    let len = digits
        .iter()
        .take_while(|byte| digit(byte).is_some())
        .count();
    let (number, rest) = digits.split_at_checked(len)?;
    if number.is_empty() {
        return None;
    }
    let value = number.iter().filter_map(digit).fold(0u64, |value, digit| {
        value.saturating_mul(base.into()).saturating_add(digit)
    });
    let (unit, rest) = match rest.split_first() {
        Some((letter, after)) => match letter.to_ascii_uppercase() {
            b'K' => (10, after),
            b'M' => (20, after),
            b'G' => (30, after),
            b'T' => (40, after),
            b'P' => (50, after),
            b'E' => (60, after),
            _ => (0, rest),
        },
        None => (0, rest),
    };
    Some((value.saturating_mul(1 << unit), rest))
}

#[cfg_attr(kernel, kernel::prelude::kunit_tests(luo_memory))]
#[cfg_attr(not(kernel), cfg(test))]
mod tests {
    use super::*;

    /// A machine of 4 GiB below a hole, and one above it, in MiB.
    fn machine() -> Option<Ram> {
        let mut ram = Ram::none().ok()?;
        ram.add(mib(0, 3072)).ok()?;
        ram.add(mib(4096, 5120)).ok()?;
        Some(ram)
    }

    fn mib(start: u64, end: u64) -> PageRange {
        let frame = |mib: u64| Pfn::new(mib << (20 - PAGE_SHIFT));
        PageRange::between(frame(start), frame(end))
    }

    /// Which option, if any, takes off a stretch that is preserved.
    fn judge(line: &str, preserved: PageRange) -> Option<&'static str> {
        let changes = Changes::parse(line.as_bytes());
        let mut ram = machine()?;
        if changes.apply(&mut ram).is_err() {
            return Some("too many");
        }
        let at = ram.lacks(preserved)?;
        Some(changes.culprit(at).map_or("nobody", |change| change.option))
    }

    #[test]
    fn what_a_command_line_takes_off_is_seen() {
        // In the lower stretch, and in the upper one.
        let (low, high) = (mib(1024, 2048), mib(4200, 4300));
        let cases = [
            ("kho=on console=ttyS0", None, None),
            ("mem=1200M", Some("mem="), Some("mem=")),
            ("mem=0x80000000", None, Some("mem=")),
            ("mem=2G mem=1G", Some("mem="), Some("mem=")),
            ("mem=8G", None, None),
            ("mem=nopentium", None, None),
            ("memmap=1536M", Some("memmap="), Some("memmap=")),
            ("memmap=exactmap", Some("memmap="), Some("memmap=")),
            ("memmap=exactmap memmap=3G@0", None, Some("memmap=")),
            ("memmap=exactmap,3G@0,1G@4G", None, None),
            ("memmap=4K$1100M", Some("memmap="), None),
            ("memmap=4K$0x44c00000", Some("memmap="), None),
            ("memmap=64M#1G", Some("memmap="), None),
            ("memmap=1G!4G", None, Some("memmap=")),
            ("memmap=1G%4G-1+2", None, Some("memmap=")),
            ("memmap=1G%4G-2+1", None, None),
            ("memmap=1M$1023M memmap=1M$2G", None, None),
            ("\"memmap=4K$1100M\"", Some("memmap="), None),
            ("cma=64M", None, None),
            ("cma=64M@1G", Some("cma="), None),
            ("cma=64M@1G-4G", None, None),
            ("cma=64M@4200M-4264M", None, Some("cma=")),
            ("movable_node kernelcore=512M movablecore=1G", None, None),
            ("hugepagesz=1G hugepages=400 hugetlb_cma=2G", None, None),
            ("kho_scratch=1M,1M,0 crashkernel=256M@1G", None, None),
            ("-- mem=1G", None, None),
        ];
        for (line, lower, upper) in cases {
            assert!(judge(line, low) == lower);
            assert!(judge(line, high) == upper);
        }
    }

    #[test]
    fn too_many_options_are_not_judged() {
        let many = "memmap=4K$0 memmap=4K$0 memmap=4K$0 memmap=4K$0 memmap=4K$0 memmap=4K$0 \
                    memmap=4K$0,4K$0,4K$0,4K$0,4K$0,4K$0,4K$0,4K$0,4K$0,4K$0,4K$0";
        assert!(judge(many, mib(1024, 2048)) == Some("too many"));
    }

    #[test]
    fn where_a_crash_kernel_is_to_be() {
        let crash = |line: &str| Changes::parse(line.as_bytes()).crash();
        let last = crash("crashkernel=64M@16M crashkernel=256M@1G");
        assert!(last == Some(mib(1024, 1280)));
        assert!(crash("crashkernel=256M").is_none());
        assert!(crash("crashkernel=1G-:256M").is_none());
    }
}
