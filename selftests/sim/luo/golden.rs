// SPDX-License-Identifier: GPL-2.0

//! Bytes of "luo-v5" as our kernel writes them: a change of layout breaks this test.
//!
//! `golden/luo-v5.bin` is the root, the table of FLBs, the list of sessions and the files of one, a
//! page each. Addresses, which depend on where pages are, stand as 1 to 4 for these pages, and
//! as 0xf0, 0xf1, ... for what drivers wrote.
//! `GOLDEN=1 cargo test --release -p liveupdate luo::golden` writes it again.

use std::collections::BTreeMap;
use std::path::Path;

use zerocopy::IntoBytes;

use super::lab::a_file;
use super::world::{root_at, World};
use crate::kho::addr::PhysAddr;
use crate::sim::kernel::words_at;

const GOLDEN: &[u8] = include_bytes!("../golden/luo-v5.bin");

fn written() -> Vec<u64> {
    let world = World::cold();
    for (name, files) in [("first", 2), ("second", 0)] {
        let session = world.create(name).expect("memory");
        for token in 0..files {
            let file = a_file(token as usize, token).expect("memory");
            let token = 0x1122_3344_5566_7788 + token;
            world.preserve(&session, token, &file).expect("memory");
            std::mem::forget(file);
        }
        std::mem::forget(session);
    }
    world.luo.reboot().expect("nothing fails");
    let (root, size) = root_at(world.kexec());
    assert_eq!(size, 32);
    let root_words = words_at(root);
    let (list, flbs) = (root_words[2], root_words[3]);
    let list_words = words_at(PhysAddr::new(list));
    let files = list_words[2 + 8];
    let mut names = BTreeMap::from([(root.raw(), 1), (flbs, 2), (list, 3), (files, 4)]);
    let mut words = root_words;
    words.extend(words_at(PhysAddr::new(flbs)));
    words.extend(list_words);
    words.extend(words_at(PhysAddr::new(files)));
    let drivers = [512 + 2 + 6, 512 + 2 + 14, 1536 + 2 + 6, 1536 + 2 + 14];
    for (number, word) in (0xf0..).zip(drivers) {
        names.insert(words[word], number);
    }
    let name = |word: u64| names.get(&word).copied().unwrap_or(word);
    words.into_iter().map(name).collect()
}

#[test]
fn what_we_write_is_what_we_wrote() {
    let words = written();
    if std::env::var_os("GOLDEN").is_some() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("selftests/sim/golden/luo-v5.bin");
        std::fs::write(file, words.as_bytes()).expect("it is written");
        return;
    }
    assert_eq!(words.len() * 8, GOLDEN.len());
    for (page, name) in ["root", "FLBs", "sessions", "files"]
        .into_iter()
        .enumerate()
    {
        let range = page * 4096..(page + 1) * 4096;
        assert!(words.as_bytes()[range.clone()] == GOLDEN[range], "{name}");
    }
}
