// SPDX-License-Identifier: GPL-2.0
//! What luod leaves with the service manager, by its names there. Each name says in which boot it
//! was given: systemd brings sessions through a live update under their old names, and then they
//! are no longer what they were.

use crate::machine::Key;
use std::fmt;

/// One run of the kernel: what `/proc/sys/kernel/random/boot_id` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot(String);

impl Boot {
    /// Takes what the kernel says. Anything that would not fit into a name is left out.
    pub fn new(text: &str) -> Self {
        let good = |character: &char| character.is_ascii_hexdigit() || *character == '-';
        Self(text.chars().filter(good).take(36).collect())
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was left with the service manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// A session to the next kernel, whose owner had said that all was in.
    Outgoing(Key),
    /// A session from the previous kernel, which somebody has claimed.
    Incoming {
        /// Whose.
        key: Key,
        /// It is known that all is in.
        whole: bool,
    },
    /// luod's own record for the next kernel.
    Record {
        /// The update is not to be called off with its driver's end.
        held: bool,
    },
    /// luod's own record from the previous kernel, which could not be noted down.
    OldRecord,
}

const OUTGOING: &str = "out";
const INCOMING: &str = "in";
const UNVERIFIED: &str = "unverified";
const RECORD: &str = "internal";
const RECORD_HELD: &str = "internal-held";
const OLD_RECORD: &str = "record";

impl Kept {
    /// The name there.
    pub fn name(&self, boot: &Boot) -> String {
        match self {
            Self::Outgoing(key) => format!("{OUTGOING}/{boot}/{}", key.session()),
            Self::Incoming { key, whole } => {
                let kind = if *whole { INCOMING } else { UNVERIFIED };
                format!("{kind}/{boot}/{}", key.session())
            }
            Self::Record { held: false } => format!("{RECORD}/{boot}"),
            Self::Record { held: true } => format!("{RECORD_HELD}/{boot}"),
            Self::OldRecord => format!("{OLD_RECORD}/{boot}"),
        }
    }

    /// What has this name, and of which boot it is. The first luod's names say no boot.
    pub fn of(name: &str) -> Option<(Self, Option<Boot>)> {
        let (kind, rest) = name.split_once('/').unwrap_or((name, ""));
        let record = match kind {
            RECORD => Some(Self::Record { held: false }),
            RECORD_HELD => Some(Self::Record { held: true }),
            OLD_RECORD => Some(Self::OldRecord),
            _ => None,
        };
        if let Some(record) = record {
            return Some((record, boot(rest)));
        }
        let (key, boot) = match Key::of_session(rest) {
            Some(key) => (key, None),
            None => {
                let (first, rest) = rest.split_once('/')?;
                (Key::of_session(rest)?, Some(boot(first)?))
            }
        };
        let kept = match kind {
            OUTGOING => Self::Outgoing(key),
            INCOMING => Self::Incoming { key, whole: true },
            UNVERIFIED => Self::Incoming { key, whole: false },
            _ => return None,
        };
        Some((kept, boot))
    }
}

fn boot(text: &str) -> Option<Boot> {
    let boot = Boot::new(text);
    (!text.is_empty() && boot.0 == text).then_some(boot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use luo_client::Id;

    fn key(id: &str) -> Key {
        let id = Id::new(id).expect("an id");
        Key {
            uid: 4_294_967_295,
            id,
        }
    }

    #[test]
    fn names_say_what_and_when() {
        let boot = Boot::new("2b8a9b3c-7e57-4a2f-9d6e-1c5f0a7b8d9e\n");
        let long = "@".repeat(Id::MAX);
        for kept in [
            Kept::Outgoing(key(&long)),
            Kept::Incoming {
                key: key("x"),
                whole: true,
            },
            Kept::Incoming {
                key: key("x"),
                whole: false,
            },
            Kept::Record { held: false },
            Kept::Record { held: true },
            Kept::OldRecord,
        ] {
            let name = kept.name(&boot);
            // systemd takes no longer ones, and none with a colon.
            assert!(name.len() < 256 && !name.contains(':'), "{name}");
            assert_eq!(Kept::of(&name), Some((kept, Some(boot.clone()))));
        }
    }

    #[test]
    fn the_first_luods_names_are_read_and_others_are_not() {
        let old = |name, kept| assert_eq!(Kept::of(name), Some((kept, None)), "{name}");
        old("internal", Kept::Record { held: false });
        old("internal-held", Kept::Record { held: true });
        old("out/luod/4294967295/x", Kept::Outgoing(key("x")));
        for other in [
            "",
            "stored",
            "out/",
            "out/x/luod/0/a",
            "in//luod/0/a",
            "out/1-2/luod/0/",
        ] {
            assert_eq!(Kept::of(other), None, "{other}");
        }
    }
}
