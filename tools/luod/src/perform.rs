// SPDX-License-Identifier: GPL-2.0
//! Does with the device what the machine asks for, one operation at a time.

use crate::catalogue::{Catalogue, Entry};
use crate::device::{Device, DeviceError};
use crate::machine::{Arrivals, Done, Key, Op};
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

/// Whether it was in vain because somebody else has the device, or the record of an update that was called off: the service manager
/// may not have closed yet what it keeps for a luod that is gone.
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

/// What has arrived: by the record that was handed over, else by what a luod before this one noted down, else by what the kernel
/// lists.
fn boot<D: Device>(device: &mut D) -> Result<Arrivals, DeviceError> {
    let record = match device.retrieve_record() {
        // It may have been there, but cannot be had: names are as good.
        Err(DeviceError::Damaged | DeviceError::Taken) => None,
        other => other?,
    };
    let record = record.or_else(|| device.noted());
    let catalogue = record.map(|bytes| Catalogue::from_bytes(&bytes));
    let listed = device.arrived();
    let names = listed.iter().flatten();
    let mut named: BTreeMap<Key, bool> = names
        .filter_map(|name| Some((Key::of_session(name)?, true)))
        .collect();
    let Some(Ok(catalogue)) = catalogue else {
        return Ok(Arrivals {
            known: listed.is_some(),
            sessions: named.into_iter().collect(),
        });
    };
    // What is not in the record is of somebody who was not part of the update, and held on to a session.
    named.values_mut().for_each(|complete| *complete = false);
    for Entry { uid, id, complete } in catalogue.sessions {
        let key = Key { uid, id };
        // A note may be older than the end of a session; the kernel knows.
        if listed.is_none() || named.contains_key(&key) {
            named.insert(key, complete);
        }
    }
    Ok(Arrivals {
        sessions: named.into_iter().collect(),
        known: true,
    })
}
