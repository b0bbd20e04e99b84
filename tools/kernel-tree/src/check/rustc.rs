// SPDX-License-Identifier: GPL-2.0
//! Our kernel crates compiled again, by the command Kbuild recorded, with clippy or other options.
//!
//! Only metadata is made and only in a folder of its own: the kernel's build folder stays as it
//! is. `make CLIPPY=1`, or another `.config`, would build the whole Rust support anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};

use super::{finding, Finding};
use crate::integrate::CRATE;
use crate::kernel::Kernel;
use crate::make::RUSTC;
use crate::steps::Steps;

/// The driver that belongs to the kernel's rustc.
const CLIPPY: &str = "/usr/bin/clippy-driver";

/// Where the options of the kernel reach rustc.
const CFG: &str = "include/generated/rustc_cfg";

/// Options whose other value is tried.
#[derive(Clone, Copy)]
pub(super) struct Variant {
    pub(super) name: &'static str,
    /// Options to be set.
    on: &'static [&'static str],
    /// Options to be unset.
    off: &'static [&'static str],
}

pub(super) const VARIANTS: [Variant; 8] = [
    Variant {
        name: "KEXEC_HANDOVER_DEBUG",
        on: &["KEXEC_HANDOVER_DEBUG"],
        off: &[],
    },
    Variant {
        name: "KEXEC_HANDOVER_ENABLE_DEFAULT",
        on: &["KEXEC_HANDOVER_ENABLE_DEFAULT"],
        off: &[],
    },
    Variant {
        name: "no KEXEC_HANDOVER_DEBUGFS",
        on: &[],
        off: &["KEXEC_HANDOVER_DEBUGFS"],
    },
    Variant {
        name: "no LIVEUPDATE",
        on: &[],
        off: &[
            "LIVEUPDATE",
            "LIVEUPDATE_EVENTFD",
            "LIVEUPDATE_MEMFD",
            "LIVEUPDATE_TEST",
        ],
    },
    Variant {
        name: "no LIVEUPDATE_EVENTFD",
        on: &[],
        off: &["LIVEUPDATE_EVENTFD"],
    },
    Variant {
        name: "no LIVEUPDATE_MEMFD",
        on: &[],
        off: &["LIVEUPDATE_MEMFD"],
    },
    Variant {
        name: "no LIVEUPDATE_MEMFD, no LIVEUPDATE_EVENTFD",
        on: &[],
        off: &["LIVEUPDATE_MEMFD", "LIVEUPDATE_EVENTFD"],
    },
    Variant {
        name: "no KUNIT",
        on: &[],
        off: &["KUNIT"],
    },
];

/// No line of the last build's log is a warning.
pub(super) fn no_warnings(steps: &Steps) -> Finding {
    let text = steps.log_text("building ours/test");
    let lines: Vec<String> = text
        .lines()
        .filter(|l| l.to_lowercase().contains("warning:"))
        .map(|l| l.trim().to_owned())
        .collect();
    match lines.is_empty() {
        true => Ok(String::new()),
        false => Err(lines),
    }
}

/// A crate of the kernel that has code of ours.
#[derive(Clone, Copy)]
pub(super) struct Crate {
    pub(super) name: &'static str,
    /// Its folder, and its object there.
    folder: &'static str,
    object: &'static str,
}

/// Ours, first of all.
pub(super) const OURS: Crate = Crate {
    name: "liveupdate",
    folder: CRATE,
    object: "liveupdate",
};

/// The kernel's own, which has our API for drivers, the example and the sample.
pub(super) const OTHERS: [Crate; 3] = [
    Crate {
        name: "kernel",
        folder: "rust",
        object: "kernel",
    },
    Crate {
        name: "liveupdate_counter",
        folder: "kernel/liveupdate/rust/driver/examples",
        object: "liveupdate_counter",
    },
    Crate {
        name: "liveupdate_ring",
        folder: "kernel/liveupdate/rust/samples",
        object: "liveupdate_ring",
    },
];

/// The command Kbuild compiled a crate with.
pub(super) struct Recorded {
    name: &'static str,
    words: String,
    build: PathBuf,
    source: PathBuf,
}

impl Recorded {
    /// Reads it from the build folder of `kernel`.
    pub(super) fn read(kernel: &Kernel, of: Crate) -> Result<Self> {
        let file = format!(".{}.o.cmd", of.object);
        let path = kernel.build_dir.join(of.folder).join(file);
        let text = fs::read_to_string(&path).with_context(|| {
            let crate_ = of.name;
            format!("cannot read {}, so {crate_} was not built", path.display())
        })?;
        let Some(words) = command_of(&text) else {
            bail!(
                "{} holds no rustc command; run make clean and build again",
                path.display()
            );
        };
        Ok(Self {
            name: of.name,
            words,
            build: kernel.build_dir.clone(),
            source: kernel.source.clone(),
        })
    }

    /// The lints the kernel asks for, each of them an error.
    pub(super) fn clippy(&self, steps: &Steps) -> Finding {
        if !Path::new(CLIPPY).is_file() {
            return Err(vec![format!("{CLIPPY} is not installed; run make setup")]);
        }
        let name = format!("clippy of the crate {}", self.name);
        self.compile(&name, CLIPPY, None, steps)
    }

    /// Compiles with the options of `variant`.
    pub(super) fn variant(&self, variant: Variant, steps: &Steps) -> Finding {
        let name = format!("compiling with {}", variant.name);
        self.compile(&name, RUSTC, Some(variant), steps)
    }

    fn compile(
        &self,
        name: &str,
        compiler: &str,
        variant: Option<Variant>,
        steps: &Steps,
    ) -> Finding {
        let dir = self.build.join("liveupdate-rs.check");
        let prepared = self.prepare(&dir, compiler, variant);
        let command = prepared.map_err(|err| vec![format!("{err:#}")])?;
        let mut cmd = Command::new("sh");
        cmd.current_dir(&self.build)
            .env_remove("LD_LIBRARY_PATH")
            .env_remove("RUSTFLAGS")
            // The kernel uses unstable features of a stable compiler; its Makefile says the same.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CLIPPY_CONF_DIR", &self.source)
            .args(["-c", &command]);
        let ran = steps.run_terse(name, &mut cmd);
        let _ = fs::remove_dir_all(&dir);
        match ran {
            Ok(()) => Ok(String::new()),
            Err(err) => finding(steps, name, &err, &["error", "-->"]),
        }
    }

    /// The shell command, with the options in a file of its own.
    fn prepare(&self, dir: &Path, compiler: &str, variant: Option<Variant>) -> Result<String> {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let from = self.build.join(CFG);
        let mut options =
            fs::read_to_string(&from).with_context(|| format!("cannot read {}", from.display()))?;
        if let Some(variant) = variant {
            options = changed(&options, variant);
        }
        let cfg = dir.join("rustc_cfg");
        fs::write(&cfg, options).with_context(|| format!("cannot write {}", cfg.display()))?;
        Ok(redirected(&self.words, compiler, dir))
    }
}

/// The rustc command in a `.cmd` file, without what follows it, as a shell reads it.
fn command_of(text: &str) -> Option<String> {
    let (_, command) = text.lines().next()?.split_once(":=")?;
    let rustc = command.split(';').next()?.trim();
    rustc
        .contains(" --crate-type ")
        .then(|| rustc.replace("$(pound)", "#").replace("$$", "$"))
}

/// `command` with another compiler, all output in `dir`, its options from `dir`, and no warning.
fn redirected(command: &str, compiler: &str, dir: &Path) -> String {
    let dir = dir.display();
    let mut words: Vec<String> = Vec::new();
    let mut given = command.split(' ').filter(|w| !w.is_empty());
    while let Some(word) = given.next() {
        if word == RUSTC {
            words.push(compiler.to_owned());
        } else if word == "--out-dir" {
            given.next();
        } else if word.ends_with(CFG) && word.starts_with('@') {
            words.push(format!("@{dir}/rustc_cfg"));
        } else if !word.starts_with("--emit=") {
            words.push(word.to_owned());
        }
    }
    words.push(format!("--emit=metadata --out-dir {dir} -Dwarnings"));
    words.join(" ")
}

/// The lines of a `rustc_cfg` with the options of `variant` changed.
fn changed(options: &str, variant: Variant) -> String {
    let about = |line: &str, option: &str| {
        line.strip_prefix("--cfg=CONFIG_")
            .and_then(|l| l.strip_prefix(option))
            .is_some_and(|l| l.is_empty() || l.starts_with('='))
    };
    let touched = |line: &str| variant.on.iter().chain(variant.off).any(|o| about(line, o));
    let mut out: String = options
        .split_inclusive('\n')
        .filter(|l| !touched(l.trim_end()))
        .collect();
    for option in variant.on {
        out.push_str(&format!(
            "--cfg=CONFIG_{option}\n--cfg=CONFIG_{option}=\"y\"\n"
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_command_is_redirected() {
        let cmd = "savedcmd_k/liveupdate.o :=  OBJTREE=/b /usr/bin/rustc -Zx='f(a,b)' @./include/generated/rustc_cfg --crate-type rlib -L ./rust/ --out-dir k/ --emit=dep-info=k/.l.d --emit=obj=k/l.o /s/l.rs ; ./tools/objtool/objtool k/l.o\n\nsource_k := x\n";
        let words = command_of(cmd).unwrap();
        assert_eq!(
            redirected(&words, CLIPPY, Path::new("/t")),
            "OBJTREE=/b /usr/bin/clippy-driver -Zx='f(a,b)' @/t/rustc_cfg --crate-type rlib -L ./rust/ /s/l.rs --emit=metadata --out-dir /t -Dwarnings"
        );
    }

    #[test]
    fn options_are_set_and_unset_by_whole_name() {
        let options = "--cfg=CONFIG_KUNIT\n--cfg=CONFIG_KUNIT=\"y\"\n--cfg=CONFIG_KUNIT_TEST\n";
        let off = Variant {
            name: "",
            on: &["A"],
            off: &["KUNIT"],
        };
        assert_eq!(
            changed(options, off),
            "--cfg=CONFIG_KUNIT_TEST\n--cfg=CONFIG_A\n--cfg=CONFIG_A=\"y\"\n"
        );
    }
}
