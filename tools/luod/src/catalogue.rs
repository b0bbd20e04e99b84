// SPDX-License-Identifier: GPL-2.0
//! luod's own record: which sessions go from one luod to the next, as JSON with a version.

use luo_client::Id;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version that is written; it is the only one that is read.
const VERSION: u64 = 1;
/// No catalogue is longer: 40 bytes of id and less than 60 more for each client that can be
/// subscribed, or was and is left out.
pub const MAX_BYTES: usize = 4 << 20;

/// A session in the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Whose.
    pub uid: u32,
    /// Under which id.
    pub id: Id,
    /// Its owner had said that all was in.
    pub complete: bool,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    version: u64,
    /// In no particular order.
    pub sessions: Vec<Entry>,
}

/// Bytes that are no catalogue of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "luod's record cannot be read: {}", self.0)
    }
}

impl std::error::Error for Unreadable {}

impl Catalogue {
    /// A catalogue of this version.
    pub fn new(sessions: Vec<Entry>) -> Self {
        Self {
            version: VERSION,
            sessions,
        }
    }

    /// As it is written.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads one.
    ///
    /// # Errors
    ///
    /// It is damaged, or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        if bytes.len() > MAX_BYTES {
            return Err(Unreadable("it is too long".into()));
        }
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|error| Unreadable(error.to_string()))?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(VERSION) => {}
            Some(other) => {
                return Err(Unreadable(format!(
                    "it has version {other}, and this luod knows {VERSION} only"
                )))
            }
            None => return Err(Unreadable("it states no version".into())),
        }
        serde_json::from_value(value).map_err(|error| Unreadable(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        let entry = Entry {
            uid: 7,
            id: Id::new("cache").expect("an id"),
            complete: true,
        };
        let catalogue = Catalogue::new(vec![entry]);
        let bytes = catalogue.to_bytes();
        // A format that other versions of luod read.
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            r#"{"version":1,"sessions":[{"uid":7,"id":"cache","complete":true}]}"#
        );
        assert_eq!(Catalogue::from_bytes(&bytes), Ok(catalogue));
    }

    #[test]
    fn other_versions_and_nonsense_are_refused() {
        for bad in [
            "",
            "{}",
            r#"{"version":2,"sessions":[]}"#,
            r#"{"version":1}"#,
            r#"{"version":1,"sessions":[{"uid":-1,"id":"x","complete":true}]}"#,
        ] {
            assert!(Catalogue::from_bytes(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
