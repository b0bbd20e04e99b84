// SPDX-License-Identifier: GPL-2.0
//! What luod needs of `/dev/liveupdate`: a trait, so that tests can have a device of their own.

use std::fmt;

/// The name of luod's own session, which holds its record.
pub const RECORD: &str = "luod-internal";

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// This kernel has no live update.
    Absent,
    /// Somebody else has the device open.
    Busy,
    /// A session of this name exists.
    Exists,
    /// No session of this name has arrived.
    Unknown,
    /// Somebody else has retrieved it.
    Taken,
    /// It has arrived, and cannot be read.
    Damaged,
    /// Anything else.
    Other(String),
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "this kernel offers no live update (kho=on liveupdate=on turns it on)",
            Self::Busy => "somebody has /dev/liveupdate open for too long",
            Self::Exists => "there is a session of its name",
            Self::Unknown => "no session of its name has arrived",
            Self::Taken => "somebody else has retrieved its session",
            Self::Damaged => "its session has arrived damaged",
            Self::Other(text) => text,
        })
    }
}

impl std::error::Error for DeviceError {}

/// The device. No call has it open any longer than it takes.
pub trait Device {
    /// A session; the last clone to be dropped closes it.
    type Session: Clone;

    /// Makes a session.
    ///
    /// # Errors
    ///
    /// Nothing has changed.
    fn create(&mut self, name: &str) -> Result<Self::Session, DeviceError>;

    /// Gets a session that has arrived.
    ///
    /// # Errors
    ///
    /// Nothing has changed.
    fn retrieve(&mut self, name: &str) -> Result<Self::Session, DeviceError>;

    /// Makes a session with a file in it that nobody can change, for luod's own record.
    ///
    /// # Errors
    ///
    /// Nothing has changed.
    fn preserve_record(&mut self, record: &[u8]) -> Result<Self::Session, DeviceError>;

    /// What the last kernel's luod preserved as its record; none if there was no luod. It is noted
    /// down, as by [`Self::note`], before the kernel forgets it; if it cannot be, its session stays
    /// open.
    ///
    /// # Errors
    ///
    /// There may be one.
    fn retrieve_record(&mut self) -> Result<Option<Vec<u8>>, DeviceError>;

    /// Takes a record that the service manager kept, under this name, as [`Self::retrieve_record`]
    /// does. It leaves the store when it is noted down.
    fn adopt_record(&mut self, name: &str, session: Self::Session);

    /// Sessions that the kernel lists, and whether each has arrived; finished ones are left out.
    /// None if the kernel does not tell. A session may be missed when others come and go meanwhile.
    fn sides(&mut self) -> Option<Vec<(bool, String)>>;

    /// Names of sessions that have arrived and that nobody has finished, as [`Self::sides`] has
    /// them.
    fn arrived(&mut self) -> Option<Vec<String>> {
        let arrived = self.sides()?.into_iter();
        Some(
            arrived
                .filter_map(|(arrived, name)| arrived.then_some(name))
                .collect(),
        )
    }

    /// Notes down a record where a luod after this one finds it, and the next kernel does not. What
    /// stood there before stays if it cannot be written.
    fn note(&mut self, record: &[u8]);

    /// What was noted down last since this kernel booted.
    fn noted(&mut self) -> Option<Vec<u8>>;

    /// Puts a session into the service manager's store.
    fn store(&mut self, name: &str, session: &Self::Session);

    /// Takes it out.
    fn unstore(&mut self, name: &str);
}
