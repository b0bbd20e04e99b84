// SPDX-License-Identifier: GPL-2.0
//! This kernel's command line: what the next one may be given, and what it says of images without a
//! catalogue.

/// This kernel's command line, without what the boot loader says of the image.
pub fn of_this_kernel() -> std::io::Result<String> {
    let line = std::fs::read_to_string("/proc/cmdline")?;
    let words = line
        .split_whitespace()
        .filter(|word| !word.starts_with("BOOT_IMAGE="));
    Ok(words.collect::<Vec<_>>().join(" "))
}

/// Whether this kernel takes an image that says nothing of itself for mainline's.
pub fn takes_unknown_for_mainline() -> bool {
    of_this_kernel().is_ok_and(|line| last(&line, "liveupdate.unknown") == Some("mainline"))
}

/// The value of the last word of this name, as the last one wins.
fn last<'a>(cmdline: &'a str, name: &str) -> Option<&'a str> {
    let words = cmdline.split_whitespace();
    let words = words.take_while(|word| *word != "--");
    words
        .filter_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        let unknown = |line| last(line, "liveupdate.unknown");
        assert_eq!(
            unknown("quiet liveupdate.unknown=mainline"),
            Some("mainline")
        );
        assert_eq!(
            unknown("liveupdate.unknown=mainline liveupdate.unknown="),
            Some("")
        );
        assert_eq!(
            unknown("liveupdate.unknownx=1 -- liveupdate.unknown=mainline"),
            None
        );
    }
}
