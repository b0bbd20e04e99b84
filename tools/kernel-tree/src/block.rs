// SPDX-License-Identifier: GPL-2.0
//! Guarded blocks: the few lines put into a file of the kernel, and taken out again without a
//! trace.

use anyhow::{bail, Result};

const BEGIN: &str = "liveupdate-rs begin";
const END: &str = "liveupdate-rs end";

/// Where a block goes in its file. An anchor is a whole line that occurs exactly once.
#[derive(Clone, Copy)]
pub enum Place {
    /// Right before the anchor.
    Before(&'static str),
    /// Right after the anchor.
    After(&'static str),
    /// At the end of the file, which must name each of these words in exactly one line.
    End(&'static [&'static str]),
}

/// One insertion into one file of the kernel tree.
pub struct Block {
    /// The file, from the tree's root.
    pub file: &'static str,
    pub place: Place,
    /// A template: an SPDX line of its own, which is left out, then the lines with their markers.
    pub template: &'static str,
}

/// `text` with all our blocks taken out, whatever version of us put them there.
///
/// A block with an empty line on both sides brought the second one with it.
pub fn strip(file: &str, text: &str) -> Result<String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut kept: Vec<&str> = Vec::with_capacity(lines.len());
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        if line.contains(END) {
            bail!("{file} has a \"{END}\" line without a \"{BEGIN}\" line; restore the file from its archive");
        }
        if !line.contains(BEGIN) {
            kept.push(line);
            at += 1;
            continue;
        }
        let Some(length) = lines[at..].iter().position(|l| l.contains(END)) else {
            bail!("{file} has a \"{BEGIN}\" line without a \"{END}\" line; restore the file from its archive");
        };
        at += length + 1;
        let blank = |l: Option<&&str>| l.is_some_and(|l| l.trim().is_empty());
        if blank(kept.last()) && blank(lines.get(at)) {
            at += 1;
        }
    }
    Ok(kept.concat())
}

/// `text`, which holds none of our blocks, with `block` put in.
pub fn insert(block: &Block, text: &str) -> Result<String> {
    let file = block.file;
    if !text.ends_with('\n') {
        bail!("{file} does not end with a newline, so a block cannot be taken out of it cleanly; it is not the file of this kernel version");
    }
    let body = block.template.split_once('\n').map_or("", |(_, rest)| rest);
    let (anchor, before) = match block.place {
        Place::Before(anchor) => (anchor, true),
        Place::After(anchor) => (anchor, false),
        Place::End(words) => {
            for word in words {
                one_match(file, word, text.lines().filter(|l| names(l, word)).count())?;
            }
            return Ok(format!("{text}{body}"));
        }
    };
    let is_anchor = |l: &&str| l.trim_end() == anchor;
    one_match(file, anchor.trim(), text.lines().filter(is_anchor).count())?;
    let mut out = String::with_capacity(text.len() + body.len());
    for line in text.split_inclusive('\n') {
        let here = is_anchor(&line);
        if here && before {
            out.push_str(body);
        }
        out.push_str(line);
        if here && !before {
            out.push_str(body);
        }
    }
    Ok(out)
}

fn names(line: &str, word: &str) -> bool {
    line.split_whitespace().any(|w| w == word)
}

fn one_match(file: &str, anchor: &str, count: usize) -> Result<()> {
    match count {
        1 => Ok(()),
        0 => bail!("{file} has no line \"{anchor}\", where our lines belong; this tree differs from Linux 7.3"),
        n => bail!("{file} has {n} lines \"{anchor}\" where one is expected, so it is unclear where our lines belong"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Block = Block {
        file: "f",
        place: Place::Before("anchor"),
        template: "SPDX\n# liveupdate-rs begin\nours\n# liveupdate-rs end\n\n",
    };

    #[test]
    fn insert_and_strip_are_inverse() {
        let text = "a\n\nanchor\nb\n";
        let with = insert(&BLOCK, text).unwrap();
        assert_eq!(
            with,
            "a\n\n# liveupdate-rs begin\nours\n# liveupdate-rs end\n\nanchor\nb\n"
        );
        assert_eq!(strip("f", &with).unwrap(), text);
    }

    #[test]
    fn anchors_must_be_there_once() {
        let none = insert(&BLOCK, "a\n").unwrap_err().to_string();
        assert!(none.contains("no line \"anchor\""), "{none}");
        let two = insert(&BLOCK, "anchor\nanchor\n").unwrap_err().to_string();
        assert!(two.contains("2 lines \"anchor\""), "{two}");
    }

    #[test]
    fn half_a_block_is_refused() {
        assert!(strip("f", "a\n# liveupdate-rs begin\nb\n").is_err());
        assert!(strip("f", "a\n# liveupdate-rs end\nb\n").is_err());
    }
}
