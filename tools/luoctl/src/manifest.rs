// SPDX-License-Identifier: GPL-2.0
//! What a session of `luoctl preserve` holds: names, sizes, modes and checksums of its files, as
//! JSON with a version.

use anyhow::{bail, ensure, Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The token under which the manifest is; those of the files are in it.
pub const TOKEN: u64 = 0;
const VERSION: u64 = 1;
/// No manifest that is read is longer.
pub const MAX_BYTES: u64 = 16 << 20;

/// What the first luoctl did not write may be missing, and is ignored by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub token: u64,
    pub name: String,
    pub size: u64,
    pub mode: u32,
    /// XXH3 with 128 bits, as `xxhsum -H2` has it: it finds damage, and takes little of the time in
    /// which services wait.
    pub xxh3: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Seconds and nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub atime: Option<(i64, i64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime: Option<(i64, i64)>,
    /// Extended attributes, in hexadecimal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
    /// The file itself, which its program goes on using, and no copy: it has no checksum.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_place: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    version: u64,
    pub files: Vec<Entry>,
}

impl Manifest {
    pub fn new(files: Vec<Entry>) -> Self {
        Self {
            version: VERSION,
            files,
        }
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Reads and checks one: names must not lead out of the folder that the files go to.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let value: serde_json::Value =
            serde_json::from_slice(bytes).context("the list of files is not JSON")?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(VERSION) => {}
            other => bail!("the list of files has version {other:?}; this luoctl knows {VERSION}"),
        }
        let manifest: Self = serde_json::from_value(value).context("the list of files is wrong")?;
        let mut names = BTreeSet::new();
        for entry in &manifest.files {
            let name = &entry.name;
            let bad = name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']);
            ensure!(!bad, "the list of files has the name {name:?}");
            ensure!(names.insert(name), "the list of files has {name:?} twice");
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str) -> Manifest {
        Manifest::new(vec![Entry {
            token: 1,
            name: name.into(),
            size: 5,
            mode: 0o640,
            xxh3: "00".into(),
            ..Entry::default()
        }])
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let bytes = with("a b").to_bytes().expect("bytes");
        assert_eq!(
            Manifest::from_bytes(&bytes).expect("a manifest"),
            with("a b")
        );
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(
            text.starts_with("{\"version\":1,\"files\":[{\"token\":1,"),
            "{text}"
        );
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for bad in ["", ".", "..", "/etc/passwd", "../x", "a/b"] {
            let bytes = with(bad).to_bytes().expect("bytes");
            assert!(Manifest::from_bytes(&bytes).is_err(), "{bad}");
        }
        assert!(Manifest::from_bytes(b"{\"version\":2,\"files\":[]}").is_err());
    }
}
