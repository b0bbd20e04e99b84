// SPDX-License-Identifier: GPL-2.0
//! luod's protocol, and a client for services that want their descriptors to live through a live
//! update.
//!
//! A service subscribes under an id, and goes on with its work. When an update comes it is given a
//! session, puts its descriptors in, and says that it is ready. In the next kernel it claims the id
//! and gets the session back.
//!
//! ```no_run
//! use luo_client::{Client, Event, Id};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let memory = std::fs::File::open("/proc/self/exe")?;
//! let id = Id::new("cache")?;
//! let mut luod = Client::connect(luo_client::SOCKET)?;
//! if let Some(session) = luod.claim(&id)? {
//!     let memory = std::fs::File::from(session.retrieve(1)?);
//!     luod.finish(&id, session)?;
//! }
//! luod.subscribe(&id)?;
//! loop {
//!     match luod.next_event()? {
//!         Event::Start { id, session, .. } => {
//!             session.preserve(&memory, 1)?;
//!             // Stop writing, or write only through mappings, and keep the session until the
//!             // kexec.
//!             luod.ready(&id, session)?;
//!         }
//!         Event::Abort { .. } => { /* The session is given up; go on as before. */ }
//!         _ => { /* Only for who subscribes with more: see [`Wish`]. */ }
//!     }
//! }
//! # }
//! ```
//!
//! `Documentation/luod-protocol.rst` has every message.

#![deny(missing_docs)]

mod client;
mod id;
mod line;
mod message;
mod text;
mod wire;

pub use client::{Client, Event, Failure, Subscribed};
pub use id::{BadId, Id};
pub use line::{Lines, TooLong};
pub use message::{
    decode, encode, Answer, BadMessage, Code, Driver, Files, Outcome, Part, Phase, Problem,
    Request, Service, Status, Verdict, Wish, MAX_ANSWER, MAX_REQUEST, VERSION,
};
pub use text::plain;
pub use wire::{receive, send, Received};

/// Where luod listens.
pub const SOCKET: &str = "/run/luod/liveupdate.sock";

/// What the names of all sessions that luod makes for clients begin with.
pub const NAMESPACE: &str = "luod/";

/// The session's name for an id of a user. No two users share one.
pub fn session_name(uid: u32, id: &Id) -> String {
    format!("{NAMESPACE}{uid}/{id}")
}

/// Whose session this is, if the name is one that [`session_name`] makes.
pub fn owner_of(name: &str) -> Option<(u32, Id)> {
    let (uid, id) = name.strip_prefix(NAMESPACE)?.split_once('/')?;
    let owner = (uid.parse().ok()?, Id::new(id).ok()?);
    (session_name(owner.0, &owner.1) == name).then_some(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_their_owners() {
        let id = Id::new("cache").expect("an id");
        assert_eq!(session_name(7, &id), "luod/7/cache");
        assert_eq!(owner_of("luod/7/cache"), Some((7, id)));
        for foreign in [
            "luod/07/cache",
            "luod/7/",
            "luod/7/a/b",
            "x/7/cache",
            "luod-internal",
        ] {
            assert_eq!(owner_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn the_longest_name_fits_into_a_session() {
        let id = Id::new(&"x".repeat(Id::MAX)).expect("an id");
        let name = session_name(u32::MAX, &id);
        assert!(liveupdate_uapi::Name::new(name).is_ok());
    }
}
