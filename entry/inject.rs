// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/debug/kho/out/corrupt`: arms a corruption of the handover, done at the last moment.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use kernel::prelude::*;
use kernel::uaccess::UserSliceReader;

use crate::kho::addr::PhysAddr;
use crate::kho::corrupt::{Corruption, Places};
use crate::kho::scratch::MAX_AREAS;
use crate::kho::state;
#[cfg(CONFIG_LIVEUPDATE)]
use crate::luo;
use crate::sys::Frame;

/// Longest name that is read.
const MAX_NAME: usize = 32;

/// What may be armed.
#[derive(Clone, Copy, PartialEq)]
enum Armed {
    Kho(Corruption),
    #[cfg(CONFIG_LIVEUPDATE)]
    Luo(luo::corrupt::Corruption),
}

/// Every one with its name: those of KHO, then those of LUO.
fn all() -> impl Iterator<Item = (&'static str, Armed)> {
    let kho = Corruption::ALL.iter();
    let all = kho.map(|&(name, one)| (name, Armed::Kho(one)));
    #[cfg(CONFIG_LIVEUPDATE)]
    let all = {
        let luo = luo::corrupt::Corruption::ALL.iter();
        // By its full name: the kernel's prelude has another `chain`.
        Iterator::chain(all, luo.map(|&(name, one)| (name, Armed::Luo(one))))
    };
    all
}

/// Position in `all()`; anything beyond is none.
static ARMED: AtomicUsize = AtomicUsize::new(usize::MAX);
static LAST_CHAIN: AtomicU64 = AtomicU64::new(0);
static SPOILT: [[AtomicU64; 2]; MAX_AREAS] =
    [const { [const { AtomicU64::new(0) }; 2] }; MAX_AREAS];

pub(super) fn remember_chain(first: PhysAddr) {
    LAST_CHAIN.store(first.raw(), Ordering::Relaxed);
}

fn armed() -> Option<(&'static str, Armed)> {
    all().nth(ARMED.load(Ordering::Relaxed))
}

/// Takes a name from userspace; an unknown one disarms and is `EINVAL`.
pub(super) fn arm(reader: &mut UserSliceReader) -> Result {
    let mut name = [0; MAX_NAME];
    let len = reader.len();
    reader.read_slice(name.get_mut(..len).ok_or(EINVAL)?)?;
    let name = name.get(..len).ok_or(EINVAL)?;
    let wanted = Corruption::named(name).map(Armed::Kho);
    #[cfg(CONFIG_LIVEUPDATE)]
    let wanted = wanted.or_else(|| luo::corrupt::Corruption::named(name).map(Armed::Luo));
    let index = all().position(|(_, have)| Some(have) == wanted);
    ARMED.store(index.unwrap_or(usize::MAX), Ordering::Relaxed);
    index.map(|_| ()).ok_or(EINVAL)
}

/// The scratch list to load in place of the real one, if that is what is armed.
pub(super) fn spoilt_list() -> Option<&'static [[AtomicU64; 2]]> {
    let (_, Armed::Kho(Corruption::ScratchPastRam)) = armed()? else {
        return None;
    };
    let real = state::SCRATCH.entries();
    for (index, (to, from)) in SPOILT.iter().zip(real).enumerate() {
        to[0].store(from[0].load(Ordering::Relaxed), Ordering::Relaxed);
        let size = from[1].load(Ordering::Relaxed);
        let size = if index == 1 { size + (1 << 45) } else { size };
        to[1].store(size, Ordering::Relaxed);
    }
    SPOILT.get(..real.len())
}

/// Spoils what is about to be handed over, if that was asked for.
pub(super) fn spoil() {
    let Some((name, corruption)) = armed() else {
        return;
    };
    let mut guard = state::OUTGOING.lock();
    let Some(out) = guard.as_mut() else {
        return;
    };
    let frame = |at: &AtomicU64| Frame::at(PhysAddr::new(at.load(Ordering::Relaxed)));
    let done = match corruption {
        Armed::Kho(corruption) => out.fdt().ok_or(ENOENT).and_then(|fdt| {
            corruption.apply(&Places {
                fdt,
                tree: out.tree(),
                scratch: &state::SCRATCH,
                chain: frame(&LAST_CHAIN),
            })
        }),
        #[cfg(CONFIG_LIVEUPDATE)]
        Armed::Luo(corruption) => {
            (out.fdt_mut().ok_or(ENOENT)).and_then(|fdt| corruption.apply(fdt))
        }
    };
    match done {
        Ok(()) => pr_warn!("handover corrupted on request: {name}\n"),
        Err(err) => pr_err!("handover not corrupted, {name}: {err:?}\n"),
    }
}
