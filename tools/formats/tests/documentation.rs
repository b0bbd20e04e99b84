// SPDX-License-Identifier: GPL-2.0
//! The examples in Documentation/formats.rst print what they say.

mod common;

use common::{formats, images, said};

#[test]
fn the_examples_in_the_documentation_are_true() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../Documentation/formats.rst"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let dir = images();
    let mut lines = text.lines().peekable();
    let mut count = 0;
    while let Some(line) = lines.next() {
        let Some(command) = line.strip_prefix("    $ formats ") else {
            continue;
        };
        count += 1;
        let mut expected = String::new();
        while let Some(line) = lines.next_if(|line| line.is_empty() || line.starts_with("    ")) {
            expected += line.strip_prefix("    ").unwrap_or(line);
            expected.push('\n');
        }
        // Words in quotes are one argument.
        let words = command.split('"').enumerate();
        let args: Vec<&str> = words
            .flat_map(|(at, part)| match at % 2 {
                0 => part.split_whitespace().collect(),
                _ => vec![part],
            })
            .collect();
        let (printed, _) = said(&formats(dir.path(), &args));
        assert_eq!(printed.trim_end(), expected.trim_end(), "{command}");
    }
    assert_eq!(count, 5, "all examples were found");
}
