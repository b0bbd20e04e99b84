// SPDX-License-Identifier: GPL-2.0
//! Keeps a file's content through a live update: `keep save NAME FILE` before it, `keep load NAME`
//! after it.

use liveupdate_uapi::{Device, Session};
use rustix::fs::{memfd_create, MemfdFlags};
use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::OwnedFd;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

/// By which the file is known in its session.
const TOKEN: u64 = 1;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["save", name, path] => save(name, path),
        ["load", name] => load(name),
        ["stay"] => loop {
            thread::park();
        },
        _ => {
            eprintln!("keep: write keep save NAME FILE, or keep load NAME");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keep: {error}");
            ExitCode::FAILURE
        }
    }
}

fn save(name: &str, path: &str) -> Result<(), Box<dyn Error>> {
    let mut memory = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    let bytes = io::copy(&mut File::open(path)?, &mut memory)?;

    // Only one process at a time can have the device open; it is closed at the end of this line.
    let session = Device::open()?.create_session(name)?;
    session.preserve(&memory, TOKEN)?;
    println!("{bytes} bytes wait for the next kernel");
    stay_behind(session)
}

/// A session is given up when it is closed, so a process stays behind that has it open: as its
/// standard input.
fn stay_behind(session: Session) -> Result<(), Box<dyn Error>> {
    Command::new(env::current_exe()?)
        .arg("stay")
        .stdin(OwnedFd::from(session))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(())
}

fn load(name: &str) -> Result<(), Box<dyn Error>> {
    let session = Device::open()?.retrieve_session(name)?;
    let mut memory = File::from(session.retrieve(TOKEN)?);
    session.finish()?;

    // The position is kept too: it is where the writer left it.
    memory.rewind()?;
    io::copy(&mut memory, &mut io::stdout())?;
    Ok(())
}
