// SPDX-License-Identifier: GPL-2.0
//! Children that a session's descriptor was handed down to: they retrieve from it all at once, or
//! are killed while they do.

use crate::event;
use crate::memory::{self, Wish};
use crate::pattern::Depth;
use anyhow::{ensure, Context, Result};
use liveupdate_uapi::{RetrievedSession, Session};
use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Tokens use all their bits: these are what is told apart below the highest.
const FILES: u64 = 300;
const HIGHEST: u64 = 1 << 63;
const CHILDREN: u64 = 8;
const WISH: Wish = Wish {
    bytes: 8192,
    depth: Depth::Full,
    huge: false,
    node: None,
};

pub fn preserve(session: &Session) -> Result<()> {
    for number in 0..FILES {
        session.preserve(memory::filled(&WISH, number)?, HIGHEST | number)?;
    }
    Ok(())
}

/// Starts a child with the session as its standard input.
fn start(session: &RetrievedSession, words: &[String]) -> Result<Child> {
    Command::new("/proc/self/exe")
        .arg("retriever")
        .args(words)
        .stdin(Stdio::from(session.as_fd().try_clone_to_owned()?))
        .spawn()
        .context("cannot start a child")
}

/// Each child gets its own files, and all of them one.
pub fn play(session: &RetrievedSession) -> Result<()> {
    let start = |number: u64| start(session, &[number.to_string()]);
    let children: Vec<Child> = (0..CHILDREN).map(start).collect::<Result<_>>()?;
    let mut failed = 0;
    for mut child in children {
        failed += u64::from(!child.wait()?.success());
    }
    event::check(
        "eight children retrieve 300 files from one session at once",
        failed == 0,
        format!("{failed} failed"),
    );
    Ok(())
}

/// A child that retrieves these files again and again is killed after so long.
pub fn killed(session: &RetrievedSession, tokens: [u64; 2], after: Duration) -> Result<()> {
    let words = tokens.map(|token| token.to_string());
    let mut child = start(session, &[&["for-ever".to_owned()], &words[..]].concat())?;
    std::thread::sleep(after);
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// What a child does.
pub fn retriever() -> Result<()> {
    let session = RetrievedSession::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut words = std::env::args().skip(2);
    let first = words.next().context("no number was given")?;
    if first == "for-ever" {
        let tokens: Vec<u64> = words.map(|word| word.parse()).collect::<Result<_, _>>()?;
        loop {
            for token in &tokens {
                let _ = session.retrieve(*token);
            }
        }
    }
    let child: u64 = first.parse()?;
    let mine = (child..FILES).step_by(CHILDREN as usize);
    for number in mine.chain([0]) {
        let file = File::from(session.retrieve(HIGHEST | number)?);
        let trouble = memory::verify(&file, &WISH, number)?;
        ensure!(trouble.is_none(), "file {number}: {trouble:?}");
    }
    Ok(())
}
