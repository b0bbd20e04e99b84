// SPDX-License-Identifier: GPL-2.0
//! luoctl: what its commands are, and what they do. A library, so that man pages, completions and
//! tests are made of the same.

#![deny(missing_docs)]

mod attributes;
pub mod cli;
mod command_line;
mod device;
mod ending;
mod files;
mod formats;
mod hold;
mod image;
mod list;
mod load;
mod lock;
mod luod;
mod machine;
mod manifest;
mod report;
mod run;
mod status;
mod sys;
mod sysfs;
mod update;

use cli::{Arguments, Command};
use ending::Ending;
use report::Report;

/// What went wrong, and what to do about it.
pub type Result<T> = anyhow::Result<T>;

/// Does what the command line says, tells what came of it, and gives the exit code.
pub fn main(arguments: Arguments) -> u8 {
    let report = Report::new(arguments.json);
    let done = run(&report, arguments);
    let error = match (done, report.broken()) {
        (Ok(ending), None) => return ending.code(),
        (Ok(_), Some(std::io::ErrorKind::BrokenPipe)) => return 128 + libc::SIGPIPE as u8,
        (Ok(_), Some(kind)) => anyhow::anyhow!("cannot write the report: {kind}"),
        (Err(error), _) => error,
    };
    let text = format!("{error:#}");
    if report.json() {
        report.tell("", serde_json::json!({"error": text}));
    }
    report::complain(&text);
    ending::code(&error)
}

/// Does what the command line says; nothing is half done, or the error says what is.
fn run(report: &Report, arguments: Arguments) -> Result<Ending> {
    let socket = &arguments.socket;
    let done = match arguments.command {
        Command::Status => return status::run(report, socket),
        Command::Load(load) => load::run(report, &load),
        Command::Unload => load::unload(report),
        Command::List => return list::run(report),
        Command::Preserve {
            session,
            files,
            foreground,
        } => files::preserve(report, &session, &files, foreground),
        Command::Retrieve { session, to } => files::retrieve(report, &session, &to),
        Command::Run {
            session,
            retrieve,
            command,
        } => run::run(&session, retrieve, &command),
        Command::Finish { session } => files::finish(report, &session),
        Command::Discard { session } => files::discard(report, &session),
        Command::Update(update) => update::run(report, socket, &update),
        Command::Abort => luod::abort(report, socket),
        Command::Formats { image, unknown } => {
            formats::run(report, image.as_deref(), unknown.is_some())
        }
        Command::Check {
            kernels,
            cmdline,
            without,
            unknown,
        } => {
            let (cmdline, unknown) = (cmdline.as_deref(), unknown.is_some());
            let can = formats::judge(report, &kernels, cmdline, &without, unknown)?;
            return Ok(if can { Ending::Done } else { Ending::No });
        }
        Command::Hold { .. } => hold::hold(),
    };
    done.map(|()| Ending::Done)
}
