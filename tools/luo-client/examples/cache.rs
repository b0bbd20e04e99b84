// SPDX-License-Identifier: GPL-2.0
//! A cache that loses nothing over a live update: its entries lie in a memfd, which goes to the
//! next kernel in a session.
//!
//! `cache ID ENTRIES [SOCKET]`. It says `cold`, or `warm` with how many entries it has still, then
//! `serving`; `preserved` when it is part of an update, and `goes on` when that is called off.
//! Without luod it works as any other cache, and tries again.

use luo_client::{Client, Event, Failure, Id, SOCKET};
use rustix::fs::{memfd_create, MemfdFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// The token of the memfd in its session.
const ENTRIES: u64 = 1;
/// Bytes of an entry: its key, and what is cached for it.
const ENTRY: usize = 64;

struct Cache {
    memory: File,
}

impl Cache {
    /// An empty one, with room for so many entries: a memfd that is preserved cannot grow.
    fn cold(entries: u64) -> std::io::Result<Self> {
        let memory = File::from(memfd_create("cache", MemfdFlags::CLOEXEC)?);
        memory.set_len(entries * ENTRY as u64)?;
        Ok(Self { memory })
    }

    fn value(key: u64) -> [u8; ENTRY] {
        let mut entry = [0; ENTRY];
        for (word, place) in (1..).zip(entry.chunks_exact_mut(8)) {
            let value = (key + 1).wrapping_mul(word) ^ 0x5bd1_e995;
            place.copy_from_slice(&value.to_ne_bytes());
        }
        entry
    }

    /// Looks an entry up, and makes it if it is not there; says whether it was.
    fn get(&self, key: u64) -> std::io::Result<bool> {
        let mut entry = [0; ENTRY];
        let at = key * ENTRY as u64;
        self.memory.read_exact_at(&mut entry, at)?;
        let hit = entry == Self::value(key);
        if !hit {
            self.memory.write_all_at(&Self::value(key), at)?;
        }
        Ok(hit)
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let id = arguments.next().and_then(|id| Id::new(&id).ok());
    let entries = arguments.next().and_then(|text| text.parse().ok());
    let (Some(id), Some(entries)) = (id, entries) else {
        eprintln!("usage: cache ID ENTRIES [SOCKET]");
        std::process::exit(2);
    };
    let socket = arguments.next().unwrap_or(SOCKET.into());
    let mut cache = None;
    loop {
        let error = match serve(&id, entries, &socket, &mut cache) {
            Ok(never) => match never {},
            Err(error) => error,
        };
        // Without luod what it has in memory is as good as before.
        println!("no luod: {error}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

enum Never {}

fn serve(
    id: &Id,
    entries: u64,
    socket: &str,
    cache: &mut Option<Cache>,
) -> Result<Never, Box<dyn std::error::Error>> {
    let mut luod = Client::connect(socket)?;
    if cache.is_none() {
        *cache = luod
            .claim(id)?
            .map(|session| {
                let memory = session.retrieve(ENTRIES)?.into();
                luod.finish(id, session)?;
                Ok::<_, Box<dyn std::error::Error>>(Cache { memory })
            })
            .transpose()?;
        let warm = cache.is_some();
        let cache = match cache {
            Some(cache) => cache,
            None => cache.insert(Cache::cold(entries)?),
        };
        let mut hits = 0u64;
        for key in 0..entries {
            hits += u64::from(cache.get(key)?);
        }
        match warm {
            true => println!("warm {hits}"),
            false => println!("cold {hits}"),
        }
    }
    let Some(cache) = cache else {
        return Err("no cache".into());
    };
    luod.subscribe(id)?;
    println!("serving");
    loop {
        match luod.event_within(Duration::from_millis(50)) {
            Ok(Event::Start { id, session, .. }) => {
                if let Err(error) = session.preserve(&cache.memory, ENTRIES) {
                    luod.decline(&id, &error.to_string())?;
                    continue;
                }
                luod.ready(&id, session)?;
                println!("preserved");
            }
            Ok(Event::Abort { .. }) => println!("goes on"),
            // It has not subscribed for others.
            Ok(_) => {}
            // Its daily work, which goes on while it is preserved.
            Err(Failure::Timeout) => drop(cache.get(0)?),
            Err(error) => return Err(error.into()),
        }
    }
}
