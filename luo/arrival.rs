// SPDX-License-Identifier: GPL-2.0

//! What arrived of something, for who must tell apart that nothing did, that this kernel does not
//! read it, and that it is damaged: mainline's calls have one errno for the first two.

use super::flb::Table;
use super::formats::id::Id;
use super::text::Compatible;
use crate::sys::error::{Error, Result, EBADMSG, ENODATA, ENOENT, EPROTONOSUPPORT};

/// What arrived as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Nothing: this is a cold boot, or there was no orchestrator.
    Nothing,
    /// All of it can be read.
    Whole,
    /// It is of a version that this kernel does not read.
    OtherVersion,
    /// Some of it at least is damaged.
    Damaged,
}

impl Arrival {
    /// For a person.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Whole => "whole",
            Self::OtherVersion => "other version",
            Self::Damaged => "damaged",
        }
    }

    /// For a driver.
    ///
    /// # Errors
    ///
    /// [`ENOENT`], [`EPROTONOSUPPORT`] and [`EBADMSG`], in the order of the variants.
    pub(crate) const fn result(self) -> Result {
        match self {
            Self::Whole => Ok(()),
            Self::Nothing => Err(ENOENT),
            Self::OtherVersion => Err(EPROTONOSUPPORT),
            Self::Damaged => Err(EBADMSG),
        }
    }
}

/// The record of an FLB that arrived.
///
/// # Errors
///
/// [`ENOENT`] if nothing did, [`EPROTONOSUPPORT`] if what did is of another version of its format,
/// [`EBADMSG`] if it is damaged, or the table is that it would be listed in.
pub(crate) fn of_flb(name: &Compatible, table: Table<'_>) -> Result {
    let list = match table {
        Ok(list) => list,
        Err(ENODATA) => return Err(ENOENT),
        Err(_) => return Err(EBADMSG),
    };
    if let Some(arrived) = list.iter().find(|arrived| arrived.name == *name) {
        return arrived.users.map(|_| ()).map_err(|_: Error| EBADMSG);
    }
    let family = Id::of(name).name;
    match list
        .iter()
        .any(|arrived| Id::of(&arrived.name).name == family)
    {
        true => Err(EPROTONOSUPPORT),
        false => Err(ENOENT),
    }
}

#[cfg_attr(kernel, kernel::prelude::kunit_tests(luo_arrival))]
#[cfg_attr(not(kernel), cfg(test))]
mod tests {
    use super::*;
    use crate::luo::flb::Arrived;

    #[test]
    fn the_three_ways_of_not_being_there() {
        let name = |text: &str| Compatible::of(text.as_bytes());
        let (Some(two), Some(three)) = (name("pci-v2"), name("pci-v3")) else {
            return;
        };
        let (Some(bad), Some(other)) = (name("iommu-v1"), name("vfio-v1")) else {
            return;
        };
        let arrived = |name, users| Arrived {
            name,
            data: 0,
            users,
        };
        let list = [arrived(two, Ok(1)), arrived(bad, Err(EBADMSG))];
        let of = |name| of_flb(&name, Ok(&list));
        assert!(of(two) == Ok(()));
        assert!(of(three) == Err(EPROTONOSUPPORT));
        assert!(of(bad) == Err(EBADMSG));
        assert!(of(other) == Err(ENOENT));
        assert!(of_flb(&two, Err(ENODATA)) == Err(ENOENT));
        assert!(of_flb(&two, Err(EBADMSG)) == Err(EBADMSG));
    }
}
