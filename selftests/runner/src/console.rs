// SPDX-License-Identifier: GPL-2.0
//! The kernels' console: its lines by generation, and which of them mean trouble.

/// How lines begin in which a kernel repeats its command line.
const REPEATS: [&str; 3] = [
    "Command line: ",
    "Kernel command line: ",
    "Unknown kernel command line parameters",
];

/// Console lines, one list a kernel that booted.
#[derive(Default)]
pub struct Console {
    generations: Vec<Vec<String>>,
}

impl Console {
    pub fn push(&mut self, line: &str) {
        if message(line).starts_with("Linux version ") || self.generations.is_empty() {
            // What firmware and decompressor print belongs to the kernel that follows.
            let fresh = self
                .generations
                .last()
                .is_none_or(|lines| lines.iter().any(|line| line.starts_with('[')));
            if fresh {
                self.generations.push(Vec::new());
            }
        }
        if let Some(lines) = self.generations.last_mut() {
            lines.push(line.to_owned());
        }
    }

    /// The lines of the kernel that `generation` live updates led to.
    pub fn generation(&self, generation: usize) -> &[String] {
        self.generations
            .get(generation)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// The first line of `generation` that contains `text`, without its time stamp.
    pub fn find(&self, generation: usize, text: &str) -> Option<&str> {
        self.generation(generation)
            .iter()
            .map(|line| message(line))
            .find(|line| line.contains(text))
    }

    /// As `find`, but not in what the kernel only repeats: its command line.
    pub fn find_said(&self, generation: usize, text: &str) -> Option<&str> {
        self.generation(generation)
            .iter()
            .map(|line| message(line))
            .filter(|line| !REPEATS.iter().any(|start| line.starts_with(start)))
            .find(|line| line.contains(text))
    }

    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.generations.iter().flatten().map(String::as_str)
    }

    /// The first line in which a kernel complains.
    pub fn trouble(&self) -> Option<&str> {
        self.lines().find(|line| is_trouble(line)).map(message)
    }
}

/// A kernel message without its time stamp.
pub fn message(line: &str) -> &str {
    let stamp = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
        .filter(|(stamp, _)| stamp.bytes().all(|byte| b" .0123456789".contains(&byte)));
    stamp.map_or(line, |(_, message)| message)
}

/// Whether a kernel complains in this line.
fn is_trouble(line: &str) -> bool {
    const SIGNS: [&str; 20] = [
        "BUG:",
        "BUG ",
        "WARNING:",
        "Kernel panic",
        "Oops",
        "general protection fault",
        "Call Trace:",
        "kernel BUG at",
        "possible circular locking",
        "possible recursive locking",
        "inconsistent lock state",
        "suspicious RCU usage",
        "INFO: task ",
        "detected stall",
        "rcu_sched self-detected",
        "UBSAN:",
        "KASAN:",
        "new suspected memory leaks",
        "Bad page state",
        "refcount_t:",
    ];
    SIGNS.iter().any(|sign| line.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kernel_gets_its_own_lines() {
        let mut console = Console::default();
        for line in [
            "SeaBIOS (version 1.16)",
            "[    0.000000] Linux version 7.3.4 (kho@kho)",
            "[    1.000000] one",
            "early console in extract_kernel",
            "[    0.000000] Linux version 7.3.4 (kho@kho)",
            "[    1.000000] two",
        ] {
            console.push(line);
        }
        assert!(console.find(0, "one").is_some());
        assert!(console.find(0, "two").is_none());
        assert_eq!(console.find(1, "two"), Some("two"));
    }

    #[test]
    fn time_stamps_are_not_part_of_the_message() {
        assert_eq!(message("[   12.345678]     ok 1 x"), "    ok 1 x");
        assert_eq!(message("[STAGE 1] hello"), "[STAGE 1] hello");
    }

    #[test]
    fn splats_are_trouble_and_common_words_are_not() {
        assert!(is_trouble("[    1.0] WARNING: CPU: 0 PID: 1 at mm/x.c:1"));
        assert!(is_trouble("Kernel panic - not syncing"));
        assert!(!is_trouble("[    1.0] KHO: exec from: 7.3.4 (count 1)"));
        assert!(!is_trouble("[    1.0] debug: DEBUGGING enabled"));
    }
}
