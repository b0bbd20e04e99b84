// SPDX-License-Identifier: GPL-2.0
//! Words that may only stand in `entry/`, in `sys/` and in the API for drivers, and how many
//! `unsafe` blocks there are.

use std::fs;
use std::path::Path;

use super::Finding;
use crate::integrate::{sources, DRIVER, FOLDERS};

/// The folders that hold meaning and touch no C, and what the author of a driver writes.
const FENCED: [&str; 6] = [
    "eventfd_luo",
    "kho",
    "luo",
    "memfd_luo",
    "driver/examples",
    "samples",
];

/// No `unsafe` and no `bindings::` in the fenced folders, outside comments and texts.
pub(super) fn fences(root: &Path) -> Finding {
    let mut found = Vec::new();
    for folder in FENCED {
        each_line(root, folder, |file, number, line| {
            for word in ["unsafe", "bindings::"] {
                if has_word(line, word) {
                    found.push(format!("{}:{number}: {word}", file.display()));
                }
            }
        });
    }
    match found.is_empty() {
        true => Ok(String::new()),
        false => Err(found),
    }
}

/// The count of `unsafe { }` blocks in each folder.
pub(super) fn unsafe_blocks(root: &Path) -> String {
    let counts = FOLDERS
        .iter()
        .chain([&DRIVER])
        .filter(|f| root.join(f).is_dir())
        .map(|folder| {
            let mut text = String::new();
            each_line(root, folder, |_, _, line| {
                text.push_str(line);
                text.push(' ');
            });
            format!("{folder} {}", blocks(&text))
        });
    counts.collect::<Vec<_>>().join(", ")
}

/// How often `unsafe` is followed by a brace.
fn blocks(text: &str) -> usize {
    text.match_indices("unsafe")
        .filter(|(at, word)| text[at + word.len()..].trim_start().starts_with('{'))
        .count()
}

fn each_line(root: &Path, folder: &str, mut act: impl FnMut(&Path, usize, &str)) {
    for file in sources(root, Path::new(folder)).unwrap_or_default() {
        if file.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(root.join(&file)).unwrap_or_default();
            for (index, line) in code_of(&text).lines().enumerate() {
                act(&file, index + 1, line);
            }
        }
    }
}

/// Whether `word` stands in `line` and is not a part of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(in_name);
        let after = line[at + word.len()..].chars().next().is_some_and(in_name);
        !before && (word.ends_with(':') || !after)
    })
}

/// Rust source with comments and the insides of string literals left out; lines stay lines.
fn code_of(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment_length(rest)
        } else if c == '"' {
            string_length(rest)
        } else if let Some(length) = raw_string_length(rest, out.chars().next_back()) {
            length
        } else if rest.starts_with("'\"'") {
            3
        } else if rest.starts_with("'\\\"'") {
            4
        } else {
            0
        };
        if skipped == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            let (gone, kept) = rest.split_at(skipped);
            // Something must stand between what was before and after.
            out.push(' ');
            out.extend(gone.chars().filter(|c| *c == '\n'));
            rest = kept;
        }
    }
    out
}

/// Block comments nest in Rust.
fn comment_length(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < text.len() {
        let here = &text[at..];
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `r"…"`, `r#"…"#` and so on, unless the `r` ends a name.
fn raw_string_length(text: &str, before: Option<char>) -> Option<usize> {
    if before.is_some_and(|c| c.is_alphanumeric() && c != 'b' && c != 'c' || c == '_') {
        return None;
    }
    let after = text.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = body.find(&close).map_or(body.len(), |at| at + close.len());
    Some(1 + hashes + 1 + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_texts_do_not_count() {
        let text = "a // unsafe\n/* unsafe /* */ unsafe */ b \"unsafe \\\" {\" c '\"' d r#\"unsafe\"\"# e\nunsafe\n";
        let code = code_of(text);
        assert_eq!(code.matches("unsafe").count(), 1);
        assert_eq!(code.lines().count(), 3);
        assert!(code.contains(" e\nunsafe"));
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("unsafe {", "unsafe"));
        assert!(has_word("#[unsafe(no_mangle)]", "unsafe"));
        assert!(!has_word("#![deny(unsafe_op_in_unsafe_fn)]", "unsafe"));
        assert!(has_word("use crate::bindings::x;", "bindings::"));
        assert!(!has_word("my_bindings::x", "bindings::"));
    }

    #[test]
    fn blocks_are_counted_and_functions_are_not() {
        assert_eq!(
            blocks("unsafe fn f() { unsafe { a } unsafe\n{ b } } unsafe impl X {}"),
            2
        );
    }
}
