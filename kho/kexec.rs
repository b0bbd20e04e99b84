// SPDX-License-Identifier: GPL-2.0

//! Placing the next kernel: its segments go into scratch, where nothing is ever preserved.

use super::scratch::{Area, List};
use crate::sys::log;

/// What the caller's placement function said for one area.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// A hole was found.
    Here,
    /// This area has none.
    No,
    /// The search failed; stop.
    Failed,
}

/// Tries one area after the other. True if the segment was placed.
pub(crate) fn place(list: &List, mut attempt: impl FnMut(Area) -> Placed) -> bool {
    for area in list.areas() {
        match attempt(area) {
            Placed::Here => return true,
            Placed::Failed => return false,
            Placed::No => {}
        }
    }
    false
}

/// Says which number to raise when a segment of `bytes` does not fit any area.
pub(crate) fn explain_no_room(list: &List, bytes: u64) {
    let largest = list.areas().map(|area| area.size).max().unwrap_or(0);
    log::pr_err!(
        "no scratch area has room for a segment of {} KiB (largest area: {} KiB); raise the second number of kho_scratch=LOW,GLOBAL,PERNODE on this kernel's command line (now {})\n",
        bytes.div_ceil(1024),
        largest / 1024,
        list.describe(),
    );
}

/// Warns when the next kernel is likely to run out of scratch while it boots: it will need about as
/// much early memory as this one did, next to the image itself.
pub(crate) fn warn_if_tight(list: &List, image_bytes: u64, early_bytes: u64) {
    let total: u64 = list.areas().map(|area| area.size).sum();
    let need = image_bytes.saturating_add(early_bytes);
    if total < need {
        log::pr_warn!(
            "scratch is tight: {} MiB in all, while this kernel used {} MiB in early boot and the next image takes {} MiB; the next kernel may hang without a word: raise kho_scratch=LOW,GLOBAL,PERNODE (now {})\n",
            total >> 20,
            early_bytes >> 20,
            image_bytes >> 20,
            list.describe(),
        );
    }
}
