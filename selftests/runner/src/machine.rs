// SPDX-License-Identifier: GPL-2.0
//! What one virtual machine looks like: its kernels, memory, processors and command line.

use crate::lab::Which;
use std::path::PathBuf;
use std::time::Duration;

/// Low, global and per node. Each next kernel with its initramfs has to fit in, the debug kernel
/// too.
const SCRATCH: &str = "kho_scratch=64M,256M,64M";

#[derive(Clone)]
pub struct Machine {
    /// Names the run's folder.
    pub name: String,
    pub first: Which,
    /// The kernels that follow, each by a live update.
    pub chain: Vec<Which>,
    pub memory_mib: u64,
    pub cpus: u32,
    pub nodes: u64,
    /// Guest time counts instructions.
    pub icount: bool,
    pub timeout: Duration,
    /// Files to put into /tests, or as /init.
    pub files: Vec<(String, PathBuf)>,
    pub words: Vec<String>,
}

impl Machine {
    pub fn new(name: &str, scenario: &str, first: Which, chain: &[Which]) -> Self {
        let names: Vec<&str> = chain.iter().map(|which| which.name()).collect();
        let words = [
            "console=ttyS0",
            // A kernel that dies before its console is up must be heard too.
            "earlyprintk=serial,ttyS0,115200",
            "panic=-1",
            // An emulated machine on a busy host may miss the ticks that the kernel waits for.
            "no_timer_check",
            "kho=on",
            "liveupdate=on",
            SCRATCH,
            &format!("lu.scenario={scenario}"),
            "lu.gen=0",
            &format!("lu.chain={}", names.join(",")),
        ];
        Self {
            name: name.to_owned(),
            first,
            chain: chain.to_vec(),
            memory_mib: 1024,
            cpus: 2,
            nodes: 1,
            icount: false,
            timeout: Duration::from_secs(150),
            files: Vec::new(),
            words: words.map(str::to_owned).to_vec(),
        }
    }

    /// Adds a word to the kernel command line; the last one of a kind wins.
    pub fn word(mut self, word: &str) -> Self {
        self.words.push(word.to_owned());
        self
    }

    /// Puts a file into the initramfs.
    pub fn file(mut self, name: &str, path: impl Into<PathBuf>) -> Self {
        self.files.push((name.to_owned(), path.into()));
        self
    }

    pub fn memory(mut self, mib: u64) -> Self {
        self.memory_mib = mib;
        self
    }

    pub fn timeout(mut self, seconds: u64) -> Self {
        self.timeout = Duration::from_secs(seconds);
        self
    }

    /// Memfds of `mib` MiB each.
    pub fn memfds(self, files: u64, mib: u64) -> Self {
        self.word(&format!("lu.files={files}"))
            .word(&format!("lu.size={}", mib << 20))
    }

    /// A 4 MiB `reserve_mem` region as well.
    pub fn region(self) -> Self {
        self.word("reserve_mem=4M:4096:demo").word("lu.region=1")
    }

    pub fn cmdline(&self) -> String {
        self.words.join(" ")
    }

    /// The kernels the guest needs in /boot.
    pub fn carried(&self) -> Vec<Which> {
        let mut kernels = self.chain.clone();
        kernels.sort_unstable();
        kernels.dedup();
        kernels
    }

    /// QEMU's arguments, apart from kernel and initrd.
    pub fn arguments(&self) -> Vec<String> {
        let kvm = std::env::var("KVM").is_ok_and(|value| value == "1") && !self.icount;
        let accelerator = if kvm { "kvm" } else { "tcg" };
        let mut arguments: Vec<String> = ["-accel", accelerator, "-cpu", "max", "-m"]
            .map(str::to_owned)
            .to_vec();
        arguments.push(format!("{}M", self.memory_mib));
        // A socket a processor: nodes must not share one.
        let processors = format!("{0},sockets={0}", self.cpus);
        arguments.extend(["-smp".to_owned(), processors]);
        if self.icount {
            let counted = [
                "-icount",
                "shift=0,sleep=off",
                "-rtc",
                "base=2026-01-01,clock=vm",
            ];
            arguments.extend(counted.map(str::to_owned));
        }
        if self.nodes > 1 {
            let share = self.memory_mib / self.nodes;
            for node in 0..self.nodes {
                arguments.extend([
                    "-object".to_owned(),
                    format!("memory-backend-ram,id=node{node},size={share}M"),
                    "-numa".to_owned(),
                    format!("node,nodeid={node},memdev=node{node},cpus={node}"),
                ]);
            }
        }
        let rest = [
            "-nodefaults",
            "-no-reboot",
            "-display",
            "none",
            // The console, and the port for events; see guest/src/event.rs.
            "-serial",
            "stdio",
            "-serial",
            "file:/dev/stderr",
        ];
        arguments.extend(rest.map(str::to_owned));
        arguments
    }
}
