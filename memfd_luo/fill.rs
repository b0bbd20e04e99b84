// SPDX-License-Identifier: GPL-2.0

//! Puts runs of folios into a file a batch at a time, and takes them out again.

use super::format::Refusal;
use super::{Folio, Run, Sink, RUNS, STEP};

/// Fills a file with pieces, a batch at a time; `done` of them are in it, however it ends.
#[inline(never)]
pub(super) fn fill_with(
    sink: &mut impl Sink,
    pieces: &mut impl Iterator<Item = Run>,
    done: &mut usize,
) -> Result<(), Refusal> {
    let mut batch = [Run::NONE; RUNS];
    let (mut count, mut folios) = (0, 0);
    loop {
        let piece = pieces.next();
        if piece.is_none() || count == RUNS || folios >= STEP {
            sink.fill(batch.get(..count).unwrap_or_default())?;
            *done += count;
            (count, folios) = (0, 0);
        }
        let Some(piece) = piece else {
            return Ok(());
        };
        if let Some(slot) = batch.get_mut(count) {
            *slot = piece;
            count += 1;
            folios += piece.count;
        }
    }
}

/// Takes the folios of pieces out of a file.
#[inline(never)]
pub(super) fn take_out(sink: &mut impl Sink, pieces: &mut impl Iterator<Item = Run>) {
    let mut batch = [Folio::NONE; RUNS];
    let mut count = 0;
    for piece in pieces {
        for number in 0..piece.count {
            let apart = number << piece.order.raw();
            if let Some(slot) = batch.get_mut(count) {
                *slot = Folio {
                    pfn: piece.pfn.plus(apart),
                    index: piece.index + apart,
                    order: piece.order,
                };
                count += 1;
            }
            if count == RUNS {
                sink.take_back(&mut batch);
                count = 0;
            }
        }
    }
    sink.take_back(batch.get_mut(..count).unwrap_or_default());
}

/// A long run in parts that a sink can take in one step.
pub(super) fn steps(run: Run) -> impl Iterator<Item = Run> + Clone {
    let mut rest = run;
    core::iter::from_fn(move || {
        if rest.count == 0 {
            return None;
        }
        let count = rest.count.min(STEP);
        let part = Run { count, ..rest };
        rest = rest.skip(count);
        Some(part)
    })
}
