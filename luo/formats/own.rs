// SPDX-License-Identifier: GPL-2.0

//! The formats in this kernel's own catalogue.

use super::catalogue::{Catalogue, Format};
use super::cmdline::hides;
use super::id::Id;
use crate::sys::alloc::{KVVec, GFP_KERNEL};
use crate::sys::error::Result;
use crate::sys::{catalogue, cmdline, log};

/// A format that this kernel's code declares.
#[derive(Clone, Copy)]
pub(crate) struct Declared {
    pub(crate) id: Id,
    /// As a catalogue has it: `READ`, `WRITE`.
    pub(crate) access: u32,
    /// Fingerprint of the layout, or 0.
    pub(crate) layout: u32,
}

impl Declared {
    pub(crate) fn new(format: &Format<'_>) -> Option<Self> {
        Some(Self {
            id: Id::new(format.name, format.version)?,
            access: format.access,
            layout: format.layout,
        })
    }

    /// Whether this is what is meant by a format of that layout.
    pub(crate) fn is(&self, format: &Id, layout: u32) -> bool {
        self.id == *format && (self.layout == 0 || layout == 0 || self.layout == layout)
    }
}

/// All of them, in the order of their names and versions; none if the kernel was built without a
/// catalogue.
pub(crate) struct Own(KVVec<Declared>);

impl Own {
    /// Reads it, once, but for what the command line hides.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn read() -> Result<Self> {
        let mut list = KVVec::new();
        let bytes = catalogue::own();
        if bytes.is_empty() {
            return Ok(Self(list));
        }
        let catalogue = match Catalogue::parse(bytes) {
            Ok(catalogue) => catalogue,
            Err(fault) => {
                log::pr_err!("luo: this kernel's own catalogue: {}\n", fault.text());
                return Ok(Self(list));
            }
        };
        let mut last = None;
        while let Some(next) = after(&catalogue, &last) {
            list.push(next, GFP_KERNEL)?;
            last = Some(next.id);
        }
        Ok(Self(list))
    }

    pub(crate) fn list(&self) -> &[Declared] {
        &self.0
    }

    pub(crate) fn get(&self, format: &Id) -> Option<&Declared> {
        self.0.iter().find(|declared| declared.id == *format)
    }
}

/// Whether `liveupdate.hide=` names a format: this kernel does then as if it did not have it.
pub(crate) fn hidden(format: &Id) -> bool {
    hides(
        cmdline::hidden_formats(),
        format.name.text(),
        format.version,
    )
}

/// The first format after one, in their order.
fn after(catalogue: &Catalogue<'_>, last: &Option<Id>) -> Option<Declared> {
    let rest = catalogue.formats().filter_map(|f| Declared::new(&f));
    rest.filter(|d| last.as_ref().is_none_or(|last| d.id > *last))
        .filter(|d| !hidden(&d.id))
        .min_by(|a, b| a.id.cmp(&b.id))
}
