// SPDX-License-Identifier: GPL-2.0
//! Does with the device what the machine asks for, one operation at a time.

use crate::catalogue::{Catalogue, Entry};
use crate::device::{Device, DeviceError};
use crate::machine::{Arrivals, Done, Key, Op, Verdict};
use std::collections::BTreeMap;

/// Does it. That the device is busy is a result like others; the caller may try again.
pub fn perform<D: Device>(device: &mut D, op: Op) -> Done<D::Session> {
    match op {
        Op::Boot => Done::Boot(boot(device)),
        Op::Create(key, epoch) => {
            let result = device.create(&key.session());
            Done::Create(key, epoch, result)
        }
        Op::Retrieve(key) => {
            let result = device.retrieve(&key.session());
            Done::Retrieve(key, result)
        }
        Op::Discard(key) => {
            // The session is finished when it is dropped here.
            let result = device.retrieve(&key.session()).map(drop);
            Done::Discard(key, result)
        }
        Op::Freeze(catalogue, epoch) => {
            Done::Freeze(epoch, device.preserve_record(&catalogue.to_bytes()))
        }
    }
}

/// Whether it was in vain because somebody else has the device, or the record of an update that was
/// called off: the service manager may not have closed yet what it keeps for a luod that is gone.
pub fn may_pass<S>(done: &Done<S>) -> bool {
    if matches!(done, Done::Freeze(_, Err(DeviceError::Exists))) {
        return true;
    }
    let error = match done {
        Done::Boot(result) => result.as_ref().err(),
        Done::Create(_, _, result) | Done::Retrieve(_, result) | Done::Freeze(_, result) => {
            result.as_ref().err()
        }
        Done::Discard(_, result) => result.as_ref().err(),
    };
    error == Some(&DeviceError::Busy)
}

/// What has arrived: by the record that was handed over, else by what a luod before this one noted
/// down. The kernel's list adds to that, and takes nothing away: a session may be missing there
/// that has arrived. Without a record nobody knows whether a session is whole.
fn boot<D: Device>(device: &mut D) -> Result<Arrivals, DeviceError> {
    let (record, mut trouble) = match device.retrieve_record() {
        Ok(record) => (record, "there is no record of luod's".to_owned()),
        Err(DeviceError::Damaged) => (None, "luod's record has arrived damaged".to_owned()),
        Err(DeviceError::Taken) => (None, "somebody else has taken luod's record".to_owned()),
        Err(other) => return Err(other),
    };
    let record = record.or_else(|| device.noted());
    let catalogue = record.and_then(|bytes| match Catalogue::from_bytes(&bytes) {
        Ok(catalogue) => Some(catalogue),
        Err(error) => {
            trouble = error.to_string();
            None
        }
    });
    let listed = device.arrived().unwrap_or_default();
    let listed = listed.iter().filter_map(|name| Key::of_session(name));
    let Some(catalogue) = catalogue else {
        return Ok(Arrivals {
            sessions: listed.map(|key| (key, Verdict::Unverified)).collect(),
            trouble: Some(trouble),
        });
    };
    // What is not in the record is of somebody who was not part of the update, and held on to a
    // session.
    let mut sessions: BTreeMap<Key, Verdict> = listed.map(|key| (key, Verdict::Partial)).collect();
    for Entry { uid, id, complete } in catalogue.sessions {
        let verdict = match complete {
            true => Verdict::Whole,
            false => Verdict::Partial,
        };
        sessions.insert(Key { uid, id }, verdict);
    }
    Ok(Arrivals {
        sessions: sessions.into_iter().collect(),
        trouble: None,
    })
}
