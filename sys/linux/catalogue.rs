// SPDX-License-Identifier: GPL-2.0

//! This kernel's own catalogue of formats, a note in its image.

use super::glue;

/// The catalogue's bytes.
pub(crate) fn own() -> &'static [u8] {
    let (start, end) = (
        &raw const glue::liveupdate_catalogue,
        &raw const glue::liveupdate_catalogue_end,
    );
    let size = end.addr().saturating_sub(start.addr());
    // SAFETY: The two symbols are the beginning and the end of bytes that the linker put into
    // `.notes` (luo/formats/build/note.S): read-only, and there as long as the kernel.
    unsafe { core::slice::from_raw_parts(start.cast(), size) }
}
