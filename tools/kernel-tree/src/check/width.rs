// SPDX-License-Identifier: GPL-2.0
//! Lines that are too long to read: over 100 columns in code, over 80 in documents.

use std::fs;
use std::path::Path;

use super::{listed, Finding};

const CODE: usize = 100;
const PROSE: usize = 80;

/// Folders whose files are data, or text that is not ours to wrap.
const EXCEPT: [&str; 3] = ["golden", "proptest-regressions", "corpus"];

/// Every source and document.
pub(super) fn check(root: &Path) -> Finding {
    let files = listed::files(root)?;
    let mut found = Vec::new();
    for name in files.iter().filter(|name| !excepted(name)) {
        let Some(too_long) = rule(name) else {
            continue;
        };
        let text = fs::read_to_string(root.join(name)).unwrap_or_default();
        for (line, columns) in too_long(&text) {
            found.push(format!("{name}:{line}: {columns} columns"));
        }
    }
    match found.is_empty() {
        true => Ok(String::new()),
        false => {
            let count = found.len();
            found.insert(0, format!("{count} lines are too long"));
            Err(found)
        }
    }
}

fn excepted(name: &str) -> bool {
    name.split('/').any(|folder| EXCEPT.contains(&folder))
}

/// Finds the lines, counted from 1, that are too long, and their columns.
type Rule = fn(&str) -> Vec<(usize, usize)>;

fn rule(name: &str) -> Option<Rule> {
    match name.rsplit('.').next() {
        Some("rs") => Some(rust),
        Some("c" | "h" | "py") => Some(code),
        Some("rst") => Some(rst),
        Some("md") => Some(markdown),
        _ => None,
    }
}

/// Columns, with tabs as the kernel has them.
fn columns(line: &str) -> usize {
    line.chars().fold(0, |at, c| match c {
        '\t' => at - at % 8 + 8,
        _ => at + 1,
    })
}

/// Comments; code is as rustfmt breaks it. Tables in comments are as wide as they are.
fn rust(text: &str) -> Vec<(usize, usize)> {
    let is_comment = |line: &str| line.starts_with("//") && !line.contains(" | ");
    numbered(text)
        .filter(|(_, line)| columns(line) > CODE && is_comment(line.trim_start()))
        .map(|(number, line)| (number, columns(line)))
        .collect()
}

/// Texts in quotes stay whole, so that they can be searched for.
fn code(text: &str) -> Vec<(usize, usize)> {
    let quoted = |line: &str| {
        let line = line.trim_start();
        line.contains('"') && !line.starts_with(['*', '#'])
    };
    numbered(text)
        .filter(|(_, line)| columns(line) > CODE && !quoted(line))
        .map(|(number, line)| (number, columns(line)))
        .collect()
}

fn markdown(text: &str) -> Vec<(usize, usize)> {
    numbered(text)
        .filter(|(_, line)| columns(line) > CODE && !line.starts_with(['|', ' ']))
        .map(|(number, line)| (number, columns(line)))
        .collect()
}

/// Tables, what stands as it is, and terms of definition lists are as wide as they are.
fn rst(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut table = false;
    // What is indented deeper than this is not prose.
    let mut literal: Option<usize> = None;
    let mut before = "";
    let indent_of = |line: &str| line.len() - line.trim_start().len();
    let mut following = text.lines().skip(1);
    for (number, line) in numbered(text) {
        let indent = indent_of(line);
        // A term of a definition list is one line, such as a message as it is logged.
        let term = following
            .next()
            .is_some_and(|next| indent_of(next) > indent)
            && line.trim_start().starts_with("``");
        let blank = line.trim().is_empty();
        if literal.is_some_and(|from| !blank && indent <= from) {
            literal = None;
        }
        let border = line.trim_start().starts_with("==") && line.contains("= ");
        if border {
            table = true;
        } else if blank && before.trim_start().starts_with("==") {
            table = false;
        }
        let one_word = !line.trim().contains(' ');
        if columns(line) > PROSE && !table && literal.is_none() && !one_word && !term {
            found.push((number, columns(line)));
        }
        let directive = line.trim_start().starts_with(".. ") && line.contains("::");
        if literal.is_none() && (line.ends_with("::") || directive) {
            literal = Some(indent);
        }
        before = line;
    }
    found
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_lines_are_not_too_long() {
        assert_eq!(check(&crate::project_root()).err(), None);
    }

    #[test]
    fn prose_is_narrow_and_tables_are_not() {
        let long = "word ".repeat(20);
        let literal = format!("``{long}``\n  ::\n\n      {long}");
        let table = format!("====  ====\n{long}\n====  ====");
        let text = format!("{long}\n\n{table}\n\n{long}\n\n{literal}\n\n{long}\n");
        let lines: Vec<usize> = rst(&text).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [1, 7, 14]);
    }

    #[test]
    fn code_is_wider_and_texts_stay_whole() {
        let comment = format!("    // {}", "word ".repeat(20));
        let quoted = format!("    bail!(\"{}\");", "word ".repeat(20));
        let text = format!("{comment}\n{quoted}\n\t\t{}\n", "x".repeat(85));
        let lines: Vec<usize> = code(&text).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [1, 3]);
        let lines: Vec<usize> = rust(&text).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [1]);
    }
}
