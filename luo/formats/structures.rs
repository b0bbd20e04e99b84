// SPDX-License-Identifier: GPL-2.0

//! Formats of what is preserved by itself, with no file: slab caches and arrays that have a name.
//!
//! Those without a name are part of something that has a format of its own, whose reader reads
//! them.

use super::choice::Choice;
use super::id::Id;
use crate::kho::root::{self, Kind};
use crate::kho::{array, slab};
use crate::sys::error::{Result, EPROTONOSUPPORT};
use crate::sys::log;

/// Kinds of structures, and their formats.
const KINDS: [(&Kind, &str, u32); 2] = [
    (&slab::shape::KIND, "kho-slab", 1),
    (&array::shape::KIND, "kho-array", 1),
];

/// The formats that this kernel would hand over now.
pub(crate) fn in_use() -> impl Iterator<Item = Id> {
    let used = KINDS.iter().filter(|(kind, ..)| root::any_named(kind));
    used.filter_map(|(_, name, version)| Id::new(name, *version))
}

/// Checks that the next kernel reads the formats of all named structures. If it does not, their
/// contents are lost: a live update (`refuse`) fails, a plain kexec only logs a warning, because
/// drivers, not the operator, decide what they preserve.
///
/// # Errors
///
/// [`EPROTONOSUPPORT`].
pub(crate) fn check(choice: &Choice<'_>, refuse: bool) -> Result {
    for format in in_use().filter(|format| !choice.reads(format)) {
        if refuse {
            log::pr_err!(
                "luo: no reboot: whoever boots next does not read {format}, which a driver has preserved something in\n"
            );
            return Err(EPROTONOSUPPORT);
        }
        log::pr_warn!(
            "luo: whoever boots next does not read {format}: what a driver has preserved in it will be lost\n"
        );
    }
    Ok(())
}
