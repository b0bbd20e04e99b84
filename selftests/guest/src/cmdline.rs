// SPDX-License-Identifier: GPL-2.0
//! The kernel command line: where a scenario's parameters come from, and how state goes to the next
//! generation.

use anyhow::{Context, Result};

/// The running kernel's command line.
pub struct Cmdline(String);

impl Cmdline {
    /// Reads the command line this kernel was booted with.
    pub fn read() -> Result<Self> {
        let line = std::fs::read_to_string("/proc/cmdline").context("cannot read /proc/cmdline")?;
        Ok(Self(line.trim().to_owned()))
    }

    /// The last value given for `lu.<key>=`, as later words win in the kernel too.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("lu.")?.split_once('='))
            .filter(|(name, _)| *name == key)
            .map(|(_, value)| value)
            .next_back()
    }

    /// A number given for `lu.<key>=`, or `default`.
    pub fn number(&self, key: &str, default: u64) -> u64 {
        self.get(key)
            .and_then(|value| value.parse().ok())
            .unwrap_or(default)
    }

    /// Whether `lu.<key>=1` was given.
    pub fn flag(&self, key: &str) -> bool {
        self.number(key, 0) == 1
    }

    /// How many live updates lie behind this kernel.
    pub fn generation(&self) -> u64 {
        self.number("gen", 0)
    }

    /// How often the first kernel of the chain is still to be updated to: `lu.repeat=`, or once.
    fn repeat(&self) -> u64 {
        self.number("repeat", 1)
    }

    /// The kernels still to be updated to, first one first.
    pub fn chain(&self) -> Vec<&str> {
        self.get("chain")
            .map(|chain| chain.split(',').filter(|name| !name.is_empty()).collect())
            .unwrap_or_default()
    }

    /// The next generation's command line: this one, its generation counted up, its chain shortened
    /// by the kernel it goes to.
    pub fn for_next(&self) -> String {
        let repeat = self.repeat();
        let used_up = if repeat > 1 { 0 } else { 1 };
        let rest = self.chain().get(used_up..).unwrap_or_default().join(",");
        let mut words: Vec<String> = self
            .0
            .split_whitespace()
            .filter(|word| {
                let counted = ["lu.gen=", "lu.chain=", "lu.repeat="];
                !counted.iter().any(|start| word.starts_with(start))
            })
            // What the boot loader put there is about the old image.
            .filter(|word| !word.starts_with("BOOT_IMAGE="))
            .map(str::to_owned)
            .collect();
        words.push(format!("lu.gen={}", self.generation() + 1));
        words.push(format!("lu.chain={rest}"));
        if repeat > 1 {
            words.push(format!("lu.repeat={}", repeat - 1));
        }
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_generation_counts_up_and_shortens_the_chain() {
        let line = Cmdline("kho=on lu.gen=1 lu.chain=ours,mainline lu.size=4096 panic=-1".into());
        assert_eq!(line.chain(), ["ours", "mainline"]);
        assert_eq!(
            line.for_next(),
            "kho=on lu.size=4096 panic=-1 lu.gen=2 lu.chain=mainline"
        );
        let last = Cmdline(line.for_next());
        assert_eq!(last.generation(), 2);
        assert_eq!(
            Cmdline(last.for_next()).chain(),
            Vec::<&str>::new(),
            "a chain that is used up is empty"
        );
    }

    #[test]
    fn a_kernel_that_is_repeated_stays_in_the_chain() {
        let mut line = Cmdline("lu.chain=ours lu.repeat=3".into());
        let mut updates = 0;
        while !line.chain().is_empty() {
            line = Cmdline(line.for_next());
            updates += 1;
        }
        assert_eq!((updates, line.generation()), (3, 3));
    }

    #[test]
    fn the_last_word_wins() {
        assert_eq!(Cmdline("lu.size=1 lu.size=2".into()).number("size", 0), 2);
        assert!(!Cmdline("lu.thp=0".into()).flag("thp"));
    }
}
