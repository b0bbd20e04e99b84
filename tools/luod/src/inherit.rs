// SPDX-License-Identifier: GPL-2.0
//! What the service manager gives to a luod that starts: of a luod before it in this boot, or, by a
//! service manager that brings sessions through a live update, of the previous kernel.

use crate::device::Device;
use crate::kept::{Boot, Kept};
use std::collections::BTreeSet;

/// One thing that was kept.
#[derive(Debug)]
pub struct Inherited<S> {
    /// Its name in the service manager's store.
    pub name: String,
    /// What it was when it was put there; nothing of luod's, if there is none.
    pub kept: Option<Kept>,
    /// It was put there in this boot. If not, it has come through a live update.
    pub here: bool,
    /// The session.
    pub session: S,
}

/// Looks at what was kept. Records of luods before this one are noted down here, as they name what
/// has arrived.
pub fn inherit<D: Device>(
    device: &mut D,
    boot: &Boot,
    stored: Vec<(String, D::Session)>,
) -> Vec<Inherited<D::Session>> {
    // Only the first luod's names say no boot; a session that the kernel has from the previous one,
    // and not for the next, came with it.
    let old = |stored: &(String, D::Session)| matches!(Kept::of(&stored.0), Some((_, None)));
    let listed = match stored.iter().any(old) {
        true => device.sides().unwrap_or_default(),
        false => Vec::new(),
    };
    let side = |incoming| {
        let of_side = listed.iter().filter(move |(is, _)| *is == incoming);
        of_side
            .map(|(_, name)| name.as_str())
            .collect::<BTreeSet<_>>()
    };
    let (incoming, outgoing) = (side(true), side(false));
    let came = |name: &str| incoming.contains(name) && !outgoing.contains(name);
    let mut all = Vec::new();
    for (name, session) in stored {
        let Some((kept, of)) = Kept::of(&name) else {
            let (kept, here) = (None, true);
            all.push(Inherited {
                name,
                kept,
                here,
                session,
            });
            continue;
        };
        let here = match (&of, &kept) {
            (Some(of), _) => of == boot,
            (None, Kept::Outgoing(key)) => !came(&key.session()),
            (None, Kept::Record { .. }) => !came(crate::device::RECORD),
            (None, _) => true,
        };
        match kept {
            Kept::OldRecord => device.adopt_record(&name, session),
            Kept::Record { .. } if !here => device.adopt_record(&name, session),
            kept => {
                let kept = Some(kept);
                all.push(Inherited {
                    name,
                    kept,
                    here,
                    session,
                });
            }
        }
    }
    all
}
