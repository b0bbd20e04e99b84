// SPDX-License-Identifier: GPL-2.0

//! The report for an operator: the last error, and a line for each session.

use core::fmt::{Arguments, Write};
use core::sync::atomic::Ordering;

use super::window::Window;
use super::{incoming, outgoing};
use crate::sys::error::Result;
use crate::sys::lock::{locked, Locked};
use crate::sys::log;

/// Bytes of the last error that are kept.
const LINE: usize = 256;

/// A text of limited length; the rest is cut.
struct Line {
    bytes: [u8; LINE],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let free = self.bytes.iter_mut().skip(self.len);
        self.len += free.zip(text.bytes()).map(|(to, from)| *to = from).count();
        Ok(())
    }
}

/// The last thing that went wrong.
pub(crate) struct LastError(Locked<Line>);

impl LastError {
    pub(crate) fn new() -> Result<Self> {
        let line = Line {
            bytes: [0; LINE],
            len: 0,
        };
        Ok(Self(locked!(line, "luo_last_error")?))
    }

    pub(crate) fn set(&self, what: Arguments<'_>) {
        let mut line = self.0.lock();
        line.len = 0;
        // It is cut, never refused.
        let _ = line.write_fmt(what);
    }

    /// Copies it; returns its length.
    pub(crate) fn read(&self, to: &mut [u8]) -> usize {
        let line = self.0.lock();
        let text = line.bytes.iter().take(line.len);
        to.iter_mut()
            .zip(text)
            .map(|(to, from)| *to = *from)
            .count()
    }
}

/// A place in the list of sessions: first those that arrived, then those on the way out.
#[derive(Clone, Copy)]
enum Place {
    Arrived(usize),
    /// After the session with this number.
    Outgoing(u64),
}

/// Remembers where a line starts, so that a sequential reader does not rescan the list.
pub(crate) struct Bookmark(Locked<(u64, Place)>);

const START: (u64, Place) = (0, Place::Arrived(0));

impl Bookmark {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(locked!(START, "luo_bookmark")?))
    }

    /// Copies the text of all sessions from `offset` on; returns how much that was. A line is
    /// `side state files retrieved bytes name`. Sessions that come and go while somebody reads on
    /// may be missed or torn.
    pub(crate) fn read(
        &self,
        arrived: &incoming::Sessions,
        outgoing: &Locked<outgoing::Sessions>,
        offset: u64,
        to: &mut [u8],
    ) -> usize {
        let mut mark = self.0.lock();
        if offset < mark.0 {
            *mark = START;
        }
        let mut window = Window {
            skip: offset - mark.0,
            to,
            filled: 0,
            length: mark.0,
        };
        while window.filled < window.to.len() {
            let Some(next) = line(mark.1, arrived, outgoing, &mut window) else {
                break;
            };
            if window.filled < window.to.len() {
                *mark = (window.length, next);
            }
        }
        window.filled
    }
}

/// Writes the line of the session at a place; returns the place of the next one, or `None` at the
/// end of the list.
fn line(
    place: Place,
    arrived: &incoming::Sessions,
    outgoing: &Locked<outgoing::Sessions>,
    to: &mut Window<'_>,
) -> Option<Place> {
    if let Place::Arrived(index) = place {
        if let Some(session) = arrived.list().get(index) {
            let incoming::Shown {
                files,
                retrieved,
                bytes,
                state,
            } = &session.shown;
            let state = usize::try_from(state.load(Ordering::Relaxed)).ok()?;
            // The window takes everything.
            let _ = to.write_fmt(log::fmt!(
                "incoming {} {} {} {} {}\n",
                incoming::STATES.get(state)?,
                files.load(Ordering::Relaxed),
                retrieved.load(Ordering::Relaxed),
                bytes.load(Ordering::Relaxed),
                session.name
            ));
            return Some(Place::Arrived(index + 1));
        }
    }
    let after = match place {
        Place::Outgoing(number) => number,
        Place::Arrived(_) => 0,
    };
    let session = outgoing.lock().after(after)?;
    let _ = to.write_fmt(log::fmt!(
        "outgoing open {} 0 {} {}\n",
        session.shown.files.load(Ordering::Relaxed),
        session.shown.bytes.load(Ordering::Relaxed),
        session.name
    ));
    Some(Place::Outgoing(session.number))
}
