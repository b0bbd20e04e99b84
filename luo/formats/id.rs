// SPDX-License-Identifier: GPL-2.0

//! The name and version of a format.

use super::catalogue::part;
use crate::luo::text::Compatible;
use crate::sys::log;

/// A format: name and version. Versions of one name can be compared; the higher is the newer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) name: Compatible,
    pub(crate) version: u32,
}

impl Id {
    /// `None` for a name that is empty or too long.
    pub(crate) fn new(name: &str, version: u32) -> Option<Self> {
        let name = Compatible::of(name.as_bytes())?;
        Some(Self { name, version })
    }

    /// The format of a compatible string; one that is not text is version 1 of itself.
    pub(crate) fn of(compatible: &Compatible) -> Self {
        let parted = core::str::from_utf8(compatible.text()).ok().map(part);
        parted
            .and_then(|(name, version)| Self::new(name, version))
            .unwrap_or(Self {
                name: *compatible,
                version: 1,
            })
    }
}

impl log::Display for Id {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        log::Display::fmt(&self.name, f)?;
        write!(f, " {}", self.version)
    }
}

#[cfg(all(test, not(kernel)))]
mod tests {
    use super::*;

    #[test]
    fn a_compatible_string_is_a_name_and_a_version() {
        let of = |text: &str| Id::of(&Compatible::of(text.as_bytes()).unwrap());
        assert!(of("memfd-v2") == Id::new("memfd", 2).unwrap());
        assert!(of("memfd-v2") < of("memfd-v3"));
        assert!(of("plain") == Id::new("plain", 1).unwrap());
        let odd = Compatible::of(b"\xff-v2").unwrap();
        assert!(Id::of(&odd).name == odd);
    }
}
