// SPDX-License-Identifier: GPL-2.0
//! What a client calls itself: checked once, and then fit for names of sessions and lines of a log.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An id: 1 to 40 of the characters `A-Z a-z 0-9 . _ @ -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

/// A text that is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadId;

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an id has 1 to {} characters out of A-Z a-z 0-9 . _ @ -",
            Id::MAX
        )
    }
}

impl std::error::Error for BadId {}

impl Id {
    /// The most characters: the name of the session that is made of it has 63 at most.
    pub const MAX: usize = 40;

    /// Checks a text.
    ///
    /// # Errors
    ///
    /// The text is empty, too long, or has other characters.
    pub fn new(text: &str) -> Result<Self, BadId> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
        if text.is_empty() || text.len() > Self::MAX || !text.bytes().all(good) {
            return Err(BadId);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Id {
    type Error = BadId;

    fn try_from(text: String) -> Result<Self, BadId> {
        Self::new(&text)
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_leave_its_place_is_no_id() {
        for bad in ["", "a/b", "a b", "a\n", "ü", "a\0", &"x".repeat(41)] {
            assert_eq!(Id::new(bad), Err(BadId), "{bad:?}");
        }
        for good in ["a", "getty@tty1.service", &"x".repeat(40)] {
            assert!(Id::new(good).is_ok(), "{good:?}");
        }
    }
}
