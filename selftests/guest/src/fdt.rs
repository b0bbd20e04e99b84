// SPDX-License-Identifier: GPL-2.0
//! Flattened device trees, as far as the tests look into them.

use std::ops::Range;

pub const MAGIC: [u8; 4] = [0xd0, 0x0d, 0xfe, 0xed];

/// A property: the node it stands in, its name, and where its value lies.
pub struct Property<'a> {
    node: &'a str,
    name: &'a str,
    value: Range<usize>,
}

/// A node without nodes in it: its name, and where all of it lies.
struct Leaf<'a> {
    name: &'a str,
    bytes: Range<usize>,
}

/// All properties in order. A blob that cannot be read ends the list.
pub fn properties(blob: &[u8]) -> Vec<Property<'_>> {
    let mut found = Vec::new();
    // Nothing is read beyond the blob; the first thing that does not fit ends the walk.
    let _ = walk(blob, &mut found, &mut Vec::new());
    found
}

fn walk<'a>(
    blob: &'a [u8],
    found: &mut Vec<Property<'a>>,
    leaves: &mut Vec<Leaf<'a>>,
) -> Option<()> {
    let word = |at: usize| -> Option<usize> {
        let bytes = blob.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(bytes)).ok()
    };
    let text = |at: usize| -> Option<&'a str> {
        let rest = blob.get(at..)?;
        std::str::from_utf8(rest.split(|byte| *byte == 0).next()?).ok()
    };
    let strings = word(12)?;
    let mut at = word(8)?;
    let mut node = "";
    let mut begun = None;
    loop {
        match word(at)? {
            1 => {
                begun = Some(at);
                node = text(at + 4)?;
                at = (at + 4 + node.len() + 1).next_multiple_of(4);
            }
            2 => {
                at += 4;
                if let Some(begun) = begun.take() {
                    let bytes = begun..at;
                    leaves.push(Leaf { name: node, bytes });
                }
            }
            3 => {
                let length = word(at + 4)?;
                let name = text(strings + word(at + 8)?)?;
                let value = at + 12..at + 12 + length;
                blob.get(value.clone())?;
                at = value.end.next_multiple_of(4);
                found.push(Property { node, name, value });
            }
            4 => at += 4,
            _ => return None,
        }
    }
}

/// The value of a property.
pub fn value<'a>(blob: &'a [u8], node: &str, name: &str) -> Option<&'a [u8]> {
    let property = properties(blob)
        .into_iter()
        .find(|property| property.node == node && property.name == name)?;
    blob.get(property.value)
}

/// The blob with every physical address in it set to zero: what is left must not differ from one
/// machine to the next.
pub fn without_addresses(blob: &[u8]) -> Vec<u8> {
    let mut masked = blob.to_vec();
    for property in properties(blob) {
        if matches!(property.name, "preserved-memory-map" | "preserved-data") {
            if let Some(value) = masked.get_mut(property.value) {
                value.fill(0);
            }
        }
    }
    masked
}

/// The blob without a property of the root node, as if it had never been there: its name must be
/// the last of the strings, which is where libfdt puts a new one.
pub fn without_property(blob: &[u8], name: &str) -> Option<Vec<u8>> {
    let property = properties(blob)
        .into_iter()
        .find(|property| property.node.is_empty() && property.name == name)?;
    let start = property.value.start - 12;
    let end = property.value.end.next_multiple_of(4);
    let last = [name.as_bytes(), b"\0"].concat();
    let rest = blob.strip_suffix(last.as_slice())?;
    cut(rest, start..end, last.len())
}

/// The blob without a node that has none in it, if it is there.
pub fn without_node(blob: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut leaves = Vec::new();
    walk(blob, &mut Vec::new(), &mut leaves);
    let leaf = leaves.into_iter().find(|leaf| leaf.name == name)?;
    cut(blob, leaf.bytes, 0)
}

/// Takes a part out of the structure block; so many bytes of strings are gone already.
fn cut(blob: &[u8], part: Range<usize>, strings: usize) -> Option<Vec<u8>> {
    let taken = part.len();
    let mut rest = blob.to_vec();
    rest.drain(part);
    // Total size, the offset of the strings behind the structure, bytes of strings, bytes of
    // structure.
    let fewer = [
        (4, taken + strings),
        (12, taken),
        (32, strings),
        (36, taken),
    ];
    for (at, less) in fewer {
        let bytes = rest.get_mut(at..at + 4)?;
        let was = u32::from_be_bytes((&*bytes).try_into().ok()?);
        bytes.copy_from_slice(&was.checked_sub(less as u32)?.to_be_bytes());
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    /// A header of 40 bytes, the structure block, the strings right after it.
    fn sample() -> Vec<u8> {
        let mut structure = words(&[1, 0]);
        structure.extend(words(&[3, 4, 0, 7]));
        structure.extend(words(&[1]));
        structure.extend(b"demo\0\0\0\0");
        structure.extend(words(&[3, 4, 0, 9, 3, 4, 6, 5, 2, 2, 9]));
        let mut blob = words(&[0xd00d_feed, 0, 40, 40 + structure.len() as u32]);
        blob.resize(40, 0);
        blob.extend(structure);
        blob.extend(b"start\0preserved-data\0");
        blob
    }

    #[test]
    fn a_property_is_found_in_its_own_node_only() {
        let blob = sample();
        assert_eq!(value(&blob, "demo", "start"), Some(&[0, 0, 0, 9][..]));
        assert_eq!(value(&blob, "", "start"), Some(&[0, 0, 0, 7][..]));
        assert_eq!(value(&blob, "other", "start"), None);
    }

    #[test]
    fn addresses_go_and_all_else_stays() {
        let blob = sample();
        let masked = without_addresses(&blob);
        assert_eq!(value(&masked, "demo", "preserved-data"), Some(&[0; 4][..]));
        let changed = blob.iter().zip(&masked).filter(|(one, other)| one != other);
        assert_eq!(changed.count(), 1);
    }

    /// What libfdt makes of `sample()` when a property is added to its root node.
    fn with_property(blob: &[u8]) -> Vec<u8> {
        let mut blob = blob.to_vec();
        let strings = blob.len() - 21;
        let name = (blob.len() - strings) as u32;
        blob.splice(48..48, words(&[3, 8, name, 7, 7]));
        blob.extend(b"added\0");
        for (at, more) in [(4, 26), (12, 20), (32, 6), (36, 20)] {
            let was = u32::from_be_bytes(blob[at..at + 4].try_into().expect("4 bytes"));
            blob[at..at + 4].copy_from_slice(&(was + more).to_be_bytes());
        }
        blob
    }

    #[test]
    fn a_property_goes_as_it_came() {
        let blob = sample();
        let more = with_property(&blob);
        assert_eq!(
            value(&more, "", "added"),
            Some(&[0, 0, 0, 7, 0, 0, 0, 7][..])
        );
        assert_eq!(value(&more, "demo", "start"), value(&blob, "demo", "start"));
        assert_eq!(without_property(&more, "added"), Some(blob.clone()));
        assert_eq!(without_property(&blob, "added"), None);
        // Not the last one, and not the root's.
        assert_eq!(without_property(&more, "start"), None);
        assert_eq!(without_property(&more, "preserved-data"), None);
    }

    #[test]
    fn a_node_goes_with_all_that_is_in_it() {
        let mut blob = sample();
        for at in [4, 12, 36] {
            blob[at..at + 4].copy_from_slice(&1000u32.to_be_bytes());
        }
        let strings = blob.len() - 21;
        blob[12..16].copy_from_slice(&(strings as u32).to_be_bytes());
        let rest = without_node(&blob, "demo").expect("it is there");
        assert_eq!(value(&rest, "", "start"), Some(&[0, 0, 0, 7][..]));
        assert_eq!(value(&rest, "demo", "start"), None);
        assert_eq!(without_node(&rest, "demo"), None);
        assert_eq!(without_node(&blob, ""), None);
    }

    #[test]
    fn a_truncated_blob_ends_the_walk() {
        let blob = sample();
        for length in 0..blob.len() {
            properties(&blob[..length]);
        }
    }
}
