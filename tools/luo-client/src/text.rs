// SPDX-License-Identifier: GPL-2.0
//! What somebody else has said, made fit for one line of a log or of a terminal.

/// The text on one line, of at most so many characters. What is no plain character (ends of lines,
/// escapes, characters that change the direction of others or cannot be seen) is written as its
/// number, so that it can forge nothing.
pub fn plain(text: &str, most: usize) -> String {
    let mut out = String::new();
    let mut count = 0;
    for character in text.chars() {
        let before = out.len();
        match character {
            '"' | '\'' | '\\' => out.push(character),
            _ => out.extend(character.escape_debug()),
        }
        count += out.get(before..).map_or(0, |piece| piece.chars().count());
        if count > most {
            out.truncate(before);
            out.push('…');
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_of_it_moves_the_cursor() {
        assert_eq!(
            plain("it's \"full\", 5 €, ü, 漢", 99),
            "it's \"full\", 5 €, ü, 漢"
        );
        assert_eq!(plain("x\n<0>luod: root", 99), "x\\n<0>luod: root");
        let shown = plain("a\r\u{1b}[2J\u{7}\0b\\", 99);
        assert_eq!(shown, "a\\r\\u{1b}[2J\\u{7}\\0b\\");
        // Once more changes nothing.
        assert_eq!(plain(&shown, 99), shown);
        for hidden in [
            '\u{202e}',
            '\u{2066}',
            '\u{200f}',
            '\u{2028}',
            '\u{feff}',
            '\u{ad}',
            '\u{85}',
            '\u{9b}',
            '\u{e0041}',
            '\u{200b}',
            '\u{61c}',
            '\u{301}',
        ] {
            let shown = plain(&format!("a{hidden}b"), 99);
            assert!(
                shown.starts_with("a\\u{") && !shown.contains(hidden),
                "{shown}"
            );
        }
    }

    #[test]
    fn it_is_no_longer_than_it_may() {
        assert_eq!(plain("abcdef", 6), "abcdef");
        assert_eq!(plain("abcdefg", 6), "abcdef…");
        // An escape is not cut in two.
        assert_eq!(plain("abcde\n", 6), "abcde…");
    }

    proptest! {
        #[test]
        fn any_text(text in any::<String>(), most in 0usize..50) {
            let shown = plain(&text, most);
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert!(shown.chars().count() <= most + 1);
        }
    }
}
