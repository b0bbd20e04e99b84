// SPDX-License-Identifier: GPL-2.0

//! The declarations of formats in a `.modinfo` section.

use std::collections::BTreeMap;

use super::encode::Entry;

/// The prefix of a declaration, after the name of a built-in module.
const KEY: &str = "liveupdate_format";

/// The declarations in the bytes of a `.modinfo` section: who made each (empty for a module's own),
/// and what it says.
pub(crate) fn of(modinfo: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let strings = modinfo.split(|byte| *byte == 0);
    strings.filter_map(|string| {
        let (key, value) = std::str::from_utf8(string).ok()?.split_once('=')?;
        let owner = match key.rsplit_once('.') {
            Some((owner, KEY)) => owner,
            None if key == KEY => "",
            _ => return None,
        };
        Some((owner, value))
    })
}

/// The formats in a `.modinfo` section, by name and version.
///
/// # Errors
///
/// Sentences: a declaration that is none, or two of the same format.
pub(crate) fn formats(modinfo: &[u8]) -> Result<Vec<Entry>, Vec<String>> {
    let mut found: BTreeMap<(String, u32), (&str, Entry)> = BTreeMap::new();
    let mut faults = Vec::new();
    for (owner, text) in of(modinfo) {
        let format = match Entry::parse(text) {
            Ok(format) => format,
            Err(err) => {
                faults.push(format!("{}: {err}", named(owner)));
                continue;
            }
        };
        let key = (format.name.clone(), format.version);
        if let Some((first, _)) = found.get(&key) {
            let (name, version) = key;
            faults.push(format!(
                "version {version} of the format {name} is declared twice, by {} and by {}; one of them \
                 has to take another version, or another name",
                named(first),
                named(owner)
            ));
            continue;
        }
        found.insert(key, (owner, format));
    }
    match faults.is_empty() {
        true => Ok(found.into_values().map(|(_, format)| format).collect()),
        false => Err(faults),
    }
}

fn named(owner: &str) -> &str {
    match owner {
        "" => "the module",
        owner => owner,
    }
}
