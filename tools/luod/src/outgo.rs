// SPDX-License-Identifier: GPL-2.0
//! Closing sessions takes as long as there is memory to be freed: a thread of its own does it, so that nobody else waits.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::mpsc::{channel, Sender};
use std::thread;
use tracing::warn;

/// A thread that closes what it is given, one after the other.
#[derive(Clone, Debug)]
pub struct Closer(Option<Sender<OwnedFd>>);

impl Closer {
    /// Starts it. If there can be no thread, what would be given to it is closed at once.
    pub fn new() -> Self {
        let (to, from) = channel();
        let close = move || from.into_iter().for_each(drop);
        let thread = thread::Builder::new().name("closer".into()).spawn(close);
        match thread {
            Ok(_) => Self(Some(to)),
            Err(error) => {
                warn!("sessions are closed while others wait: {error}");
                Self(None)
            }
        }
    }

    /// A session that this one closes, after its last clone is dropped.
    pub fn hold(&self, fd: OwnedFd) -> Held {
        Held(Rc::new(Closing {
            fd: Some(fd),
            closer: self.clone(),
        }))
    }
}

impl Default for Closer {
    fn default() -> Self {
        Self::new()
    }
}

/// A session; a clone is the same one.
#[derive(Clone, Debug)]
pub struct Held(Rc<Closing>);

#[derive(Debug)]
struct Closing {
    /// There until this is dropped.
    fd: Option<OwnedFd>,
    closer: Closer,
}

impl Drop for Closing {
    fn drop(&mut self) {
        if let (Some(fd), Some(closer)) = (self.fd.take(), &self.closer.0) {
            // If that thread is gone, the descriptor comes back and is closed here.
            drop(closer.send(fd));
        }
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0.fd {
            Some(fd) => fd.as_fd(),
            // It is taken out only when nobody has this any more.
            None => rustix::stdio::stderr(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_last_clone_closes_it() {
        let closer = Closer::new();
        let (mut one, other) = UnixStream::pair().expect("a pair");
        let held = closer.hold(other.into());
        let again = held.clone();
        drop(held);
        assert!(rustix::io::fcntl_getfd(&again).is_ok());
        one.set_nonblocking(true).expect("set");
        let open = one.read(&mut [0]).expect_err("nothing to read");
        assert_eq!(open.kind(), std::io::ErrorKind::WouldBlock);
        one.set_nonblocking(false).expect("set");
        drop(again);
        assert_eq!(one.read(&mut [0]).expect("the end"), 0);
    }
}
