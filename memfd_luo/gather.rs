// SPDX-License-Identifier: GPL-2.0

//! Folios of a file that are not preserved yet are found, pinned, and handed to KHO in extents.
//!
//! A file is walked where its extents leave gaps. What is found there makes extents of its own, and
//! then both lists become one. So a file is preserved, looked at again when it is frozen, and made
//! whole for a format that knows no holes, by one and the same walk.

use super::run::runs;
use super::table::Table;
use super::{Folio, Kho, Run, Source, BATCH};
use crate::sys::error::{Result, EINVAL};

/// Extents that are being collected: those of the table are preserved, and all are pinned.
struct Keeper {
    table: Table<Run>,
    /// The last one, which may still grow. Not preserved yet.
    ahead: Run,
    /// Pages in those of the table.
    held: u64,
}

/// The extents of a file, in order.
pub(super) struct Extents {
    pub(super) table: Table<Run>,
    /// Pages in them.
    pub(super) held: u64,
}

impl Keeper {
    fn add(&mut self, kho: &mut impl Kho, run: Run) -> Result {
        let joins = self.ahead.count > 0
            && self.ahead.order == run.order
            && self.ahead.filled == run.filled
            && self.ahead.goes_on(run.pfn, run.index);
        if joins {
            self.ahead.count += run.count;
            return Ok(());
        }
        self.flush(kho)?;
        self.ahead = run;
        Ok(())
    }

    fn flush(&mut self, kho: &mut impl Kho) -> Result {
        let run = self.ahead;
        if run.count == 0 {
            return Ok(());
        }
        kho.outgoing(|out| out.preserve_run(run.pfn, run.order, run.count))?;
        if let Err(err) = self.table.push(run) {
            unpreserve(kho, &run);
            return Err(err);
        }
        self.held += run.pages();
        self.ahead = Run::NONE;
        Ok(())
    }

    /// Keeps what is between two pages of the file; all of it, if holes are to be filled.
    #[inline(never)]
    fn gap(
        &mut self,
        kho: &mut impl Kho,
        source: &mut impl Source,
        mut from: u64,
        to: u64,
        fill: bool,
    ) -> Result {
        let mut batch = [Folio::NONE; BATCH];
        while from < to {
            let count = match fill {
                true => source.pin(from, to, &mut batch)?,
                false => source.pin_present(&mut from, to, &mut batch)?,
            };
            let folios = batch.get(..count).ok_or(EINVAL)?;
            let Some(last) = folios.last() else {
                continue;
            };
            from = from.max(last.index.saturating_add(last.order.pages()));
            let mut left = runs(folios);
            while let Some(run) = left.next() {
                if let Err(err) = self.add(kho, run) {
                    source.unpin_run(&run);
                    left.for_each(|run| source.unpin_run(&run));
                    return Err(err);
                }
            }
        }
        Ok(())
    }
}

fn unpreserve(kho: &mut impl Kho, run: &Run) {
    // It was preserved, so there is something to undo.
    let _ = kho.outgoing(|out| {
        out.unpreserve_run(run.pfn, run.order, run.count);
        Ok(())
    });
}

/// Unpreserves and unpins extents.
pub(super) fn give_up(
    kho: &mut impl Kho,
    source: &mut impl Source,
    extents: impl Iterator<Item = Run>,
) {
    for run in extents {
        unpreserve(kho, &run);
        source.unpin_run(&run);
    }
}

/// Preserves what is in the gaps that `extents` leave in a file of `pages` pages, `fill`ing its
/// holes if asked to. Returns all extents, or `None` if there was nothing.
///
/// # Errors
///
/// Nothing has changed then, but holes that were filled.
pub(super) fn gather(
    kho: &mut impl Kho,
    source: &mut impl Source,
    extents: impl Iterator<Item = Run> + Clone,
    pages: u64,
    fill: bool,
) -> Result<Option<Extents>> {
    let mut new = Keeper {
        table: Table::new()?,
        ahead: Run::NONE,
        held: 0,
    };
    let mut next = 0;
    let mut kept = extents.clone().try_for_each(|extent| {
        new.gap(kho, source, next, extent.index, fill)?;
        next = extent.index.saturating_add(extent.pages());
        Ok(())
    });
    kept = kept.and_then(|()| new.gap(kho, source, next, pages, fill));
    kept = kept.and_then(|()| new.flush(kho));
    let all = match kept {
        Ok(()) if new.table.count() == 0 => {
            new.table.free();
            return Ok(None);
        }
        // Neighbours are joined as they come.
        Ok(()) if extents.clone().next().is_none() => {
            return Ok(Some(Extents {
                held: new.held,
                table: new.table,
            }));
        }
        Ok(()) => join(extents, new.table.records()),
        Err(err) => Err(err),
    };
    match all {
        Ok(all) => {
            new.table.free();
            Ok(Some(all))
        }
        Err(err) => {
            if new.ahead.count > 0 {
                source.unpin_run(&new.ahead);
            }
            give_up(kho, source, new.table.records());
            new.table.free();
            Err(err)
        }
    }
}

/// Merges two lists in the order of the file and joins neighbours.
fn join(one: impl Iterator<Item = Run>, other: impl Iterator<Item = Run>) -> Result<Extents> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    let mut table = Table::new()?;
    let mut held = 0;
    let mut ahead = Run::NONE;
    loop {
        let first = match (one.peek(), other.peek()) {
            (Some(a), Some(b)) => a.index < b.index,
            (a, _) => a.is_some(),
        };
        let next = if first { one.next() } else { other.next() };
        let joins = |run: &Run| {
            ahead.count > 0
                && run.order == ahead.order
                && run.filled == ahead.filled
                && ahead.goes_on(run.pfn, run.index)
        };
        held += next.as_ref().map_or(0, Run::pages);
        match next {
            Some(run) if joins(&run) => ahead.count += run.count,
            next => {
                if ahead.count > 0 {
                    if let Err(err) = table.push(ahead) {
                        table.free();
                        return Err(err);
                    }
                }
                match next {
                    Some(run) => ahead = run,
                    None => return Ok(Extents { table, held }),
                }
            }
        }
    }
}
