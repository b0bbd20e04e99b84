// SPDX-License-Identifier: GPL-2.0
//! `formats`: which formats a kernel reads and writes, and whether one kernel can update to
//! another.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::{json, Value};

use formats::{check, compare, fields, running, show, Options, Side, Verdict};

/// Prints the catalogue of formats in a kernel's image: vmlinux, bzImage, Image, one of these
/// compressed, or a module. Exit code: 0 well, 1 an update cannot be done, 2 an image cannot be
/// read
#[derive(Parser)]
#[command(
    name = "formats",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The image
    #[arg(required_unless_present = "running")]
    image: Option<PathBuf>,
    /// The running system instead of an image
    #[arg(long, conflicts_with = "image")]
    running: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Common {
    /// JSON instead of tables
    #[arg(long)]
    json: bool,
    /// What an image without a catalogue and of an unknown release is taken for
    #[arg(long, value_name = "WHAT")]
    unknown: Option<Unknown>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Unknown {
    /// It reads and writes what mainline 7.2 and 7.3 do
    Mainline,
}

#[derive(Subcommand)]
enum Command {
    /// Say whether one kernel can update to another, and which versions would be written
    Check {
        /// The kernel that runs; --running for the running system
        #[arg(required_unless_present = "running")]
        old: Option<PathBuf>,
        /// The kernel to update to
        #[arg(required_unless_present = "running")]
        new: Option<PathBuf>,
        /// The running system is the old one, and NEW the only image
        #[arg(long)]
        running: bool,
        /// The new kernel's command line
        #[arg(long, value_name = "TEXT")]
        cmdline: Option<OsString>,
        /// A format of which nothing will be preserved; can be given again
        #[arg(long, value_name = "FORMAT")]
        without: Vec<String>,
        /// A module of the old kernel; can be given again
        #[arg(long, value_name = "KO")]
        old_module: Vec<PathBuf>,
        /// A module of the new kernel; can be given again
        #[arg(long, value_name = "KO")]
        new_module: Vec<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Compare two builds of a kernel: what changed, and which updates it broke
    Compare {
        old: PathBuf,
        new: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Print the fields of formats that are structs
    Fields {
        /// A module, or the file modules.builtin.modinfo of a kernel
        file: PathBuf,
        /// JSON instead of tables
        #[arg(long)]
        json: bool,
    },
    /// Check all pairs of kernels
    Matrix {
        #[arg(required = true)]
        images: Vec<PathBuf>,
        /// A format of which nothing will be preserved; can be given again
        #[arg(long, value_name = "FORMAT")]
        without: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(err) => {
            eprintln!("formats: {err}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Arguments) -> Result<bool, String> {
    let Some(command) = arguments.command else {
        let side = match &arguments.image {
            Some(image) => arguments.common.read(image)?,
            None => running::side(Path::new("/"), arguments.common.assumes())?,
        };
        arguments
            .common
            .print(|| show::side(&side), || show::side_json(&side));
        return Ok(true);
    };
    match command {
        Command::Check {
            old,
            new,
            running,
            cmdline,
            without,
            old_module,
            new_module,
            common,
        } => {
            // With --running the only image is the first one.
            let (mut old, new) = match (running, old, new) {
                (true, Some(new), None) => (running::side(Path::new("/"), common.assumes())?, new),
                (false, Some(old), Some(new)) => (common.read(&old)?, new),
                _ => return Err("with --running, give the new kernel's image alone".into()),
            };
            let mut new = common.read(&new)?;
            for (side, modules) in [(&mut old, &old_module), (&mut new, &new_module)] {
                for module in modules {
                    side.add_module(&common.read(module)?)?;
                }
            }
            let options = Options {
                cmdline: cmdline.map(OsStringExt::into_vec),
                without,
            };
            let verdict = check(&old, &new, &options);
            common.print(
                || show::verdict(&old, &new, &verdict),
                || show::verdict_json(&old, &new, &verdict),
            );
            Ok(verdict.can())
        }
        Command::Compare { old, new, common } => {
            let (old, new) = (common.read(&old)?, common.read(&new)?);
            let changes = compare::compare(&old, &new);
            common.print(
                || show::changes(&old, &new, &changes),
                || json!({"faults": changes.faults, "notes": changes.notes}),
            );
            Ok(changes.faults.is_empty())
        }
        Command::Fields { file, json } => {
            let structs = fields::read(&file)?;
            match json {
                true => println!("{:#}", show::structs_json(&structs)),
                false => print!("{}", show::structs(&structs)),
            }
            Ok(true)
        }
        Command::Matrix {
            images,
            without,
            common,
        } => {
            let read = |image: &PathBuf| common.read(image);
            let sides: Vec<Side> = images.iter().map(read).collect::<Result<_, _>>()?;
            let options = Options {
                cmdline: None,
                without,
            };
            let row = |old: &Side| sides.iter().map(|new| check(old, new, &options)).collect();
            let verdicts: Vec<Vec<Verdict>> = sides.iter().map(row).collect();
            common.print(
                || show::matrix(&sides, &verdicts),
                || pairs(&sides, &verdicts),
            );
            Ok(true)
        }
    }
}

fn pairs(sides: &[Side], verdicts: &[Vec<Verdict>]) -> Value {
    let pair = |(old, row): (&Side, &Vec<Verdict>)| {
        let row = sides.iter().zip(row);
        let shown = row.map(|(new, verdict)| show::verdict_json(old, new, verdict));
        shown.collect::<Vec<_>>()
    };
    sides.iter().zip(verdicts).flat_map(pair).collect()
}

impl Common {
    fn assumes(&self) -> bool {
        self.unknown == Some(Unknown::Mainline)
    }

    fn read(&self, image: &Path) -> Result<Side, String> {
        Side::read(image, self.assumes())
    }

    fn print(&self, text: impl FnOnce() -> String, value: impl FnOnce() -> Value) {
        match self.json {
            true => println!("{:#}", value()),
            false => print!("{}", text()),
        }
    }
}
