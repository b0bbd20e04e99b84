// SPDX-License-Identifier: GPL-2.0

//! The rules by which it is decided whether a kernel can take over: versions, releases, command
//! lines.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::catalogue::{Format, KHO_ON, LUO_ON, READ, WRITE};
use super::choose::{can, choose, Choice, Lack};
use super::cmdline::{Off, Switches};
use super::{mainline, release};

const RW: u32 = READ | WRITE;

const fn format(name: &'static str, version: u32, access: u32, layout: u32) -> Format<'static> {
    Format {
        name,
        version,
        access,
        layout,
    }
}

fn choices(
    old: &[Format<'static>],
    new: &[Format<'static>],
) -> Vec<(&'static str, Result<u32, Lack>)> {
    let made = choose(old.iter().copied(), new.iter().copied());
    made.map(|c| (c.name, c.version)).collect()
}

#[test]
fn the_newest_that_both_know_is_written() {
    let old = [
        format("memfd", 2, RW, 0),
        format("luo", 5, RW, 0),
        format("memfd", 3, RW, 0),
        format("memfd", 1, READ, 0),
    ];
    let new = [format("luo", 5, RW, 0), format("memfd", 2, RW, 0)];
    assert_eq!(choices(&old, &new), [("memfd", Ok(2)), ("luo", Ok(5))]);
    let older = choose(old.into_iter(), new.into_iter()).map(|c| c.is_older());
    assert_eq!(older.collect::<Vec<_>>(), [true, false]);
    assert_eq!(choices(&old, &old), [("memfd", Ok(3)), ("luo", Ok(5))]);
}

#[test]
fn what_the_new_kernel_only_writes_it_does_not_read() {
    let old = [format("a", 1, RW, 0), format("b", 1, READ, 0)];
    assert_eq!(
        choices(&old, &[format("a", 1, WRITE, 0)]),
        [("a", Err(Lack::Unknown))]
    );
    assert_eq!(
        choices(&old, &[format("a", 2, RW, 0), format("a", 3, WRITE, 0)]),
        [("a", Err(Lack::Version(2)))]
    );
}

#[test]
fn a_version_of_another_layout_is_another_format() {
    let old = [format("a", 1, RW, 7), format("a", 2, RW, 8)];
    let new = [format("a", 1, RW, 0), format("a", 2, RW, 9)];
    assert_eq!(choices(&old, &new), [("a", Ok(1))]);
    assert_eq!(choices(&old, &new[1..]), [("a", Err(Lack::Layout(2)))]);
}

#[test]
fn mainline_reads_what_it_writes() {
    assert!(can(mainline::formats(), mainline::formats()));
    let names: BTreeSet<_> = mainline::FORMATS.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), mainline::FORMATS.len());
}

#[test]
fn releases_of_mainline_are_known_by_their_numbers() {
    for known in [
        "7.3",
        "7.2.13",
        "7.3.4-1-amd64",
        "7.3.4+",
        "7.3-custom",
        "7.3.0-rcu",
        "7.2.1_x",
    ] {
        assert!(mainline::is_known(known), "{known}");
    }
    for unknown in [
        "",
        "7",
        "7.",
        "7.30",
        "7.30.1",
        "7.1.2",
        "17.3",
        "7.3a",
        "8.0.0",
        "7.3.0-rc1",
        "7.3-rc5",
        "7.2.0-next-20260101",
        " 7.3",
    ] {
        assert!(!mainline::is_known(unknown), "{unknown}");
    }
}

/// The beginning of a bzImage whose header points at this text.
fn bzimage(text: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 4096];
    image[0x1f1] = 4;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    image[0x20e..0x210].copy_from_slice(&0x400u16.to_le_bytes());
    image[0x600..0x600 + text.len()].copy_from_slice(text);
    image
}

#[test]
fn the_header_of_a_bzimage_names_the_release() {
    let image = bzimage(b"7.3.4 (who@where) #1 SMP\0");
    assert_eq!(release::of(&image), Some("7.3.4"));
    let mut far = image.clone();
    far[0x20e..0x210].copy_from_slice(&0xa00u16.to_le_bytes());
    assert_eq!(release::of(&far), None);
    assert_eq!(release::of(&image[..0x600]), None);
    assert_eq!(release::of(&bzimage(b"\x80\xff (\0")), None);
}

#[test]
fn the_banner_names_the_release_where_a_number_follows() {
    let raw = b"Linux version %s\0..Linux vers Linux version 7.2.13-x (a@b)".as_slice();
    assert_eq!(release::of(raw), Some("7.2.13-x"));
    assert_eq!(release::of(b"Linux version 7.2"), None);
    assert_eq!(release::of(b"Linux version"), None);
}

#[test]
fn the_last_word_that_means_something_wins() {
    let both = |line: &str| {
        let Switches {
            kho, liveupdate, ..
        } = Switches::parse(line.as_bytes());
        (kho, liveupdate)
    };
    let (on, off) = (Some(true), Some(false));
    for (line, expected) in [
        ("", (None, None)),
        ("kho=on liveupdate=1", (on, on)),
        ("kho=on kho=off", (off, None)),
        ("kho=off kho=maybe kho kho=", (off, None)),
        ("kho=off\tkho=Yes", (on, None)),
        ("  kho=on -- kho=off", (on, None)),
        ("kho=on \"--\" kho=off", (on, None)),
        ("kho=\"off\" \"liveupdate=on\"", (off, on)),
        ("x=\"a kho=on\" liveupdate=0", (None, off)),
        ("\"x kho=on\" kho=n", (off, None)),
        ("xkho=on kho_scratch=1 khoo=1", (None, None)),
        ("kho=on=off --=x liveupdate=false", (on, off)),
        ("kho=o kho=oN\0kho=off", (on, None)),
        ("=kho=on \"", (None, None)),
    ] {
        assert_eq!(both(line), expected, "{line}");
    }
}

#[test]
fn what_is_off_is_said() {
    fn line(line: &str) -> Switches<'_> {
        Switches::parse(line.as_bytes())
    }
    assert_eq!(line("").off(0), Some(Off::Kho));
    assert_eq!(line("").off(KHO_ON), Some(Off::Liveupdate));
    assert_eq!(line("").off(KHO_ON | LUO_ON), None);
    assert_eq!(line("kho=on liveupdate=on").off(0), None);
    assert_eq!(line("kho=off").off(KHO_ON | LUO_ON), Some(Off::Kho));
}

/// Formats of few names and versions, each once.
fn some() -> impl Strategy<Value = Vec<Format<'static>>> {
    let names = prop_oneof![Just("a"), Just("b"), Just("c")];
    let keys = (names, 1u32..5);
    let rest = (1u32..4, prop_oneof![Just(0u32), Just(1), Just(2)]);
    proptest::collection::btree_map(keys, rest, 0..12).prop_map(|map: BTreeMap<_, _>| {
        let made = map.into_iter().map(|((n, v), (a, l))| format(n, v, a, l));
        made.collect()
    })
}

proptest! {
    #[test]
    fn each_name_has_the_best_choice(old in some(), new in some()) {
        let made: Vec<Choice<'_>> = choose(old.iter().copied(), new.iter().copied()).collect();
        let written: BTreeSet<_> = old.iter().filter(|f| f.access & WRITE != 0).map(|f| f.name).collect();
        prop_assert_eq!(made.len(), written.len());
        for choice in made {
            let fits = |f: &&Format<'_>| {
                let same = |n: &&Format<'_>| {
                    let known = n.layout == 0 || f.layout == 0 || n.layout == f.layout;
                    (n.name, n.version) == (f.name, f.version) && n.access & READ != 0 && known
                };
                f.name == choice.name && f.access & WRITE != 0 && new.iter().any(|n| same(&n))
            };
            let best = old.iter().filter(fits).map(|f| f.version).max();
            prop_assert_eq!(choice.version.ok(), best);
        }
    }

    #[test]
    fn any_bytes_are_a_command_line(line in "[ kho=nf\"e\\-\t]{0,60}", raw in any::<Vec<u8>>()) {
        Switches::parse(line.as_bytes());
        Switches::parse(&raw);
        release::of(&raw);
    }

    #[test]
    fn any_header_is_a_release_or_none(
        size in 0usize..5000, pointer in any::<u16>(), sectors in any::<u8>(), fill in any::<u8>()
    ) {
        let mut image = bzimage(b"x");
        image[0x1f1] = sectors;
        image[0x20e..0x210].copy_from_slice(&pointer.to_le_bytes());
        image.resize(size, fill);
        release::of(&image);
    }
}
