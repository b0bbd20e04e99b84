// SPDX-License-Identifier: GPL-2.0
//! luoctl: what its commands are, and what they do. A library, so that man pages, completions and tests are made of the same.

#![deny(missing_docs)]

pub mod cli;
mod command_line;
mod device;
mod files;
mod hold;
mod image;
mod list;
mod load;
mod manifest;
mod report;
mod run;
mod status;
mod sys;
mod sysfs;
mod update;

use cli::{Arguments, Command};
use report::Report;

/// What went wrong, and what to do about it; ends the program with exit code 1.
pub type Result<T> = anyhow::Result<T>;

/// Does what the command line says.
///
/// # Errors
///
/// It could not be done; nothing is half done, or the error says what is.
pub fn run(arguments: Arguments) -> Result<()> {
    let report = Report::new(arguments.json);
    let socket = &arguments.socket;
    match arguments.command {
        Command::Status => status::run(&report, socket),
        Command::Load(load) => load::run(&report, &load),
        Command::Unload => load::unload(&report),
        Command::List => list::run(&report),
        Command::Preserve {
            session,
            files,
            foreground,
        } => files::preserve(&report, &session, &files, foreground),
        Command::Retrieve { session, to } => files::retrieve(&report, &session, &to),
        Command::Run {
            session,
            retrieve,
            command,
        } => run::run(&session, retrieve, &command),
        Command::Finish { session } => files::finish(&report, &session),
        Command::Discard { session } => files::discard(&report, &session),
        Command::Update(update) => update::run(&report, socket, &update),
        Command::Hold { .. } => hold::hold(),
    }
}
