// SPDX-License-Identifier: GPL-2.0
//! Boots kernels in QEMU and lets them live-update: the demo, every test, and the benchmark.

mod bench;
mod check;
mod console;
mod demo;
mod frames;
mod guide;
mod image;
mod ktap;
mod lab;
mod machine;
mod outcome;
mod qemu;
mod suites;
mod testbuild;
mod tests;

use clap::{Parser, Subcommand};
use lab::Which;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "runner",
    about = "Boots kernels in QEMU and lets them live-update"
)]
struct Arguments {
    #[command(flatten)]
    own: lab::OwnKernels,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One live update, told as a story: 256 MiB of memory go from one kernel to the next
    Demo,
    /// All tests, or those whose names are given; the last line says how many passed and failed
    Test {
        /// Names of scenarios, as `runner list` prints them
        names: Vec<String>,
    },
    /// So many real updates in a row in one machine, random things being handed over
    Soak {
        #[arg(long, default_value_t = 1000)]
        updates: u64,
        /// What all that is random follows from
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// On the kernel with every check the kernel has
        #[arg(long)]
        checks: bool,
    },
    /// Names the scenarios
    List,
    /// What each corruption of a handover does to our kernel and to mainline's, as a table
    Hostile {
        /// Only these corruptions
        names: Vec<String>,
        /// Only what mainline's kernel makes of them
        #[arg(long)]
        mainline_only: bool,
    },
    /// What goes across a live update between ours and mainline's kernels, from each to each, as a
    /// table
    Interop,
    /// What a live update costs, ours against mainline's, in guest instructions
    Bench {
        /// Also write the figures to this file, as JSON
        #[arg(long)]
        json: Option<PathBuf>,
        /// Only the smallest memfds, or the fewest sessions and files, or fewer records
        #[arg(long)]
        quick: bool,
        /// Only the memfds or records whose line has this in it, such as "2048 MiB, 4 KiB" or
        /// "slab, "
        #[arg(long, conflicts_with = "sessions")]
        only: Option<String>,
        /// Many sessions and many files instead of large memfds
        #[arg(long)]
        sessions: bool,
        /// Records in each kind of preserved memory that a driver can choose, ours alone
        #[arg(long, conflicts_with = "sessions")]
        primitives: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::List => {
            tests::list();
            Ok(true)
        }
        Command::Demo => lab::Lab::for_demo(arguments.own).and_then(|lab| demo::run(&lab)),
        Command::Test { names } => match tests::choose(&names) {
            Ok(chosen) => lab::Lab::open(arguments.own).and_then(|lab| tests::run(&lab, chosen)),
            Err(error) => {
                eprintln!("error: {error:#}");
                return ExitCode::from(2);
            }
        },
        Command::Soak {
            updates,
            seed,
            checks,
        } => lab::Lab::open(arguments.own).and_then(|lab| {
            let which = if checks { Which::Debug } else { Which::Ours };
            let play = || suites::soak::updates(&lab, "soak-long", which, updates, seed);
            tests::run_one(&lab, "soak-long", play)
        }),
        Command::Hostile {
            names,
            mainline_only,
        } => lab::Lab::open(arguments.own)
            .and_then(|lab| suites::hostile::table(&lab, &names, mainline_only)),
        Command::Interop => {
            lab::Lab::open(arguments.own).and_then(|lab| suites::interop::table(&lab))
        }
        Command::Bench {
            json,
            quick,
            only,
            sessions,
            primitives,
        } => lab::Lab::open(arguments.own).and_then(|lab| {
            let (only, json) = (only.as_deref(), json.as_deref());
            match (sessions, primitives) {
                (true, _) => bench::sessions::run(&lab, quick, json),
                (_, true) => bench::primitives::run(&lab, quick, only, json),
                _ => bench::run(&lab, quick, only, json),
            }
        }),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
