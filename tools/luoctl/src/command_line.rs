// SPDX-License-Identifier: GPL-2.0
//! Whether a kernel command line lets the next kernel take over.

/// What has to be changed; nothing if it will do.
pub fn faults(cmdline: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (word, what) in [
        (
            "kho",
            "the next kernel will not look at what is handed over",
        ),
        ("liveupdate", "the next kernel will have no /dev/liveupdate"),
    ] {
        match last(cmdline, word).map(on) {
            Some(true) => {}
            Some(false) => faults.push(format!("{word}= is off on the command line, so {what}")),
            None => faults.push(format!("the command line has no {word}=on, so {what}")),
        }
    }
    faults
}

/// The value of the last word of this name, as the last one wins.
fn last<'a>(cmdline: &'a str, name: &str) -> Option<&'a str> {
    let words = cmdline.split_whitespace();
    let words = words.take_while(|word| *word != "--");
    words
        .filter_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .last()
}

/// As the kernel's kstrtobool() takes it.
fn on(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    value.starts_with(['y', 't', '1']) || value.starts_with("on")
}

/// This kernel's command line, without what the boot loader says of the image.
pub fn of_this_kernel() -> std::io::Result<String> {
    let line = std::fs::read_to_string("/proc/cmdline")?;
    let words = line
        .split_whitespace()
        .filter(|word| !word.starts_with("BOOT_IMAGE="));
    Ok(words.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_must_be_on() {
        assert!(faults("kho=on liveupdate=on").is_empty());
        assert!(faults("kho=1 liveupdate=Y quiet").is_empty());
        assert_eq!(faults("").len(), 2);
        assert_eq!(faults("kho=on kho=off liveupdate=on").len(), 1);
        assert_eq!(faults("kho=on -- liveupdate=on").len(), 1);
    }
}
