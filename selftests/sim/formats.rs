// SPDX-License-Identifier: GPL-2.0

//! Formats do not change under their version: fingerprints of layouts, and bytes, are pinned.
//!
//! `golden/formats.txt` has a line for each format that our code declares. The bytes of each
//! version are in a golden file: those named here are the words of pages that are not zero, a line
//! each, with addresses as `page` and a number, since it depends on the machine where pages are.
//! `GOLDEN=1 cargo test --release -p liveupdate sim::formats` writes what is missing, and touches
//! nothing that is there.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::kernel::{small_machine, words_at, FakeArea, Kernel};
use super::{eventfd, memfd, memfd_sparse};
use crate::kho::addr::{Order, Pfn, PhysAddr};
use crate::kho::array::Array;
use crate::kho::block_set::BlockSet;
use crate::kho::key::Run;
use crate::kho::slab::cache::{Cache, Sleep};
use crate::kho::tree::{NodeStore, Tree};
use crate::kho::vmalloc;
use crate::sys::declare::{Declared, Line};
use crate::sys::pages::{self, BuddyNodes, Somewhere};
use crate::{eventfd_luo, kho, luo, memfd_luo};

/// What our code declares, and where the bytes of each are pinned. `memblock` is mainline's code.
const ALL: [(Declared, &str); 12] = [
    (kho::fdt::FORMAT, "mainline-7.3.4-root.fdt"),
    (kho::vmalloc::FORMAT, "kho-vmalloc-v1.txt"),
    (kho::block::FORMAT, "kho-block-v1.txt"),
    (kho::tree::FORMAT, "radix-v1.txt"),
    (kho::slab::shape::FORMAT, "kho-slab-v1.txt"),
    (kho::array::shape::FORMAT, "kho-array-v1.txt"),
    (kho::metadata::FORMAT, "mainline-7.3.4-kexec-metadata.bin"),
    (luo::format::FORMAT, "luo-v5.bin"),
    (luo::format::FLB_FORMAT, "luo-v5.bin"),
    (memfd_luo::format::FORMAT, "memfd-v2.txt"),
    (memfd_luo::extents::FORMAT, "memfd-v3.txt"),
    (eventfd_luo::FORMAT, "eventfd-v1.txt"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn golden(name: &str) -> PathBuf {
    root().join("selftests/sim/golden").join(name)
}

/// A declaration without its key: `NAME:VERSION:ACCESS:LAYOUT`.
fn text(format: &Declared) -> String {
    let line = Line::new(None, format);
    let bytes: Vec<u8> = line.as_bytes().to_vec();
    let text = String::from_utf8(bytes).expect("names are text");
    let (key, value) = text.trim_end_matches('\0').split_once('=').expect("a key");
    assert_eq!(key, "liveupdate_format");
    value.into()
}

/// Demands that a golden file holds this, or writes it if it is asked to and there is none.
fn demand(name: &str, text: &str, otherwise: &str) {
    let path = golden(name);
    if std::env::var_os("GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, text).expect("it is written");
    }
    let pinned = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        pinned == text,
        "{}: {otherwise}\npinned:\n{pinned}\nnow:\n{text}",
        path.display()
    );
}

#[test]
fn no_layout_changed_under_its_version() {
    let path = golden("formats.txt");
    let pinned = std::fs::read_to_string(&path).unwrap_or_default();
    let mut missing = String::new();
    for (format, _) in &ALL {
        let now = text(format);
        let (id, _) = now.rsplit_once(':').expect("every layout is known");
        let same = |line: &&str| line.rsplit_once(':').is_some_and(|(other, _)| other == id);
        match pinned.lines().find(same) {
            Some(before) => assert!(
                before == now,
                "the layout of {} changed ({before}, now {now}), and its version did not. Another kernel would \
                 misread what this one hands over. Leave version {} as it was, and give the new layout the \
                 next version, with a declaration, a golden file and a line in {} of its own",
                format.name,
                format.version,
                path.display()
            ),
            None => writeln!(missing, "{now}").expect("a String takes all"),
        }
    }
    if std::env::var_os("GOLDEN").is_some() && !missing.is_empty() {
        std::fs::write(&path, pinned + &missing).expect("it is written");
        return;
    }
    assert!(
        missing.is_empty(),
        "new formats, not pinned yet. If they are meant, add to {}:\n{missing}",
        path.display()
    );
}

#[test]
fn every_version_has_a_golden_file() {
    for (format, file) in &ALL {
        assert!(
            std::fs::metadata(golden(file)).is_ok_and(|file| file.len() > 0),
            "version {} of {} has no golden file {file}; add a test here that writes and compares it",
            format.version,
            format.name
        );
    }
}

#[test]
fn every_declaration_is_known_here() {
    let mut found = Vec::new();
    for folder in ["eventfd_luo", "kho", "luo", "memfd_luo", "sys"] {
        declarations(&root().join(folder), &mut found);
    }
    assert!(
        found.len() == ALL.len(),
        "{} formats are declared and {} are pinned; add the new one to ALL in selftests/sim/formats.rs: \
         {found:#?}",
        found.len(),
        ALL.len()
    );
}

/// The files below a folder that declare formats, once for each.
fn declarations(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("it is a folder") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            declarations(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let source = std::fs::read_to_string(&path).expect("it is text");
            let count = source.matches("\ndeclare_format! {").count();
            found.extend(std::iter::repeat_n(path, count));
        }
    }
}

#[test]
fn compilers_and_catalogues_part_alike() {
    for compatible in [
        "memfd-v2",
        "memfd-v02",
        "memfd-v",
        "x-v4294967295",
        "x-v4294967296",
        "x-v99999999999",
        "-v2",
        "v2",
        "a-v1-v3",
        "liveupdate-test-flb-v0",
        "-",
        "é-v3",
    ] {
        let declared = Declared::compatible(compatible.as_bytes(), "rw", 0);
        let parted = luo::formats::catalogue::part(compatible);
        assert_eq!((declared.name, declared.version), parted, "{compatible}");
    }
}

#[test]
fn a_declaration_is_a_line_of_modinfo() {
    let line = |owner: Option<&[u8]>, layout| {
        let format = Declared::new("a_b.c", 4_000_000_000, "r", layout);
        String::from_utf8(Line::new(owner, &format).as_bytes().to_vec()).expect("text")
    };
    assert_eq!(line(None, 0), "liveupdate_format=a_b.c:4000000000:r\0");
    assert_eq!(
        line(Some(b"my-driver"), 0xab),
        "my_driver.liveupdate_format=a_b.c:4000000000:r:000000ab\0"
    );
}

/// The words of these pages that are not zero; what is an address of a page reads as that page.
fn dump(pages: &[PhysAddr], others: &[PhysAddr]) -> String {
    let mut names = BTreeMap::new();
    for (number, at) in pages.iter().chain(others).enumerate() {
        names.insert(at.raw(), format!("page {number}"));
        // Frame numbers stand in keys and records, without flags.
        names.insert(at.raw() >> 12, format!("frame {number}"));
    }
    let mut text = String::new();
    for (number, at) in pages.iter().enumerate() {
        for (index, word) in words_at(*at).into_iter().enumerate() {
            let offset = index * 8;
            let flags = word >> 52 << 52;
            let value = match (word, names.get(&word), names.get(&(word ^ flags))) {
                (0, ..) => continue,
                (_, Some(name), _) => name.clone(),
                (_, None, Some(frame)) if flags != 0 => format!("{flags:#x} + {frame}"),
                _ => format!("{word:#x}"),
            };
            writeln!(text, "page {number} + {offset}: {value}").expect("a String takes all");
        }
    }
    text
}

const OTHERWISE: &str =
    "the bytes of this version changed. Leave the version as it was, and give what \
                         is new the next version and a golden file of its own";

#[test]
fn radix_1() {
    let _kernel = Kernel::cold(small_machine());
    let tree = Tree::at(BuddyNodes.alloc().expect("memory"));
    // Frames far apart, of several orders: keys do not depend on the machine.
    for (pfn, order, count) in [(0x12345, 0, 3), (0x40000, 9, 2), (0x8_0000_0000, 0, 1)] {
        let order = Order::new(order).expect("small");
        let run = Run::new(Pfn::new(pfn), order, count).expect("aligned");
        tree.insert(run, &mut BuddyNodes).expect("memory");
    }
    let mut pages = vec![tree.root().phys()];
    let mut next = 0;
    let mut levels = vec![0];
    // Leaves, the fifth level from the root on, have bits and not addresses.
    while let Some(at) = pages.get(next).copied() {
        if levels[next] + 1 < kho::tree::DEPTH {
            for word in words_at(at).into_iter().filter(|word| *word != 0) {
                pages.push(PhysAddr::new(word));
                levels.push(levels[next] + 1);
            }
        }
        next += 1;
    }
    demand("radix-v1.txt", &dump(&pages, &[]), OTHERWISE);
}

#[test]
fn kho_vmalloc_1() {
    let mut kernel = Kernel::cold(small_machine());
    let order = Order::new(1).expect("small");
    // One more than a chunk lists.
    let blocks: Vec<Pfn> = (0..512)
        .map(|_| pages::alloc_folio(order).expect("memory"))
        .collect();
    let addresses: Vec<PhysAddr> = blocks.iter().map(|pfn| pfn.phys()).collect();
    let area = FakeArea { order, blocks };
    let made = vmalloc::preserve(&mut kernel.out, &area, 5).expect("memory");
    let second = PhysAddr::new(words_at(made.first)[0]);
    let whole = dump(&[made.first, second], &addresses);
    // What is between the first and the last entries of a chunk reads alike.
    let last = whole.lines().rev();
    let first: Vec<&str> = whole.lines().take(4).collect();
    let mut last: Vec<&str> = last.take(4).collect();
    last.reverse();
    let mut text = [first, last].concat().join("\n") + "\n";
    writeln!(
        text,
        "total_pages {} flags {} order {}",
        made.total_pages, made.flags, made.order
    )
    .expect("a String takes all");
    demand("kho-vmalloc-v1.txt", &text, OTHERWISE);
}

#[test]
fn kho_block_1() {
    let mut kernel = Kernel::cold(small_machine());
    kernel.lend();
    let mut set = BlockSet::<[u64; 100]>::new();
    set.reserve(6).expect("memory");
    for number in 0..6 {
        let mut record = [0; 100];
        (record[0], record[99]) = (0x100 + number, 0x200 + number);
        set.write(number as usize, &record);
    }
    let first = set.seal(6);
    let second = PhysAddr::new(words_at(first)[0]);
    demand("kho-block-v1.txt", &dump(&[first, second], &[]), OTHERWISE);
}

/// The words of a page that are not zero, with those named that depend on where pages are: links to
/// the pages of a list, and sums.
fn dump_linked(number: usize, pages: &[PhysAddr], links: &[usize], sums: &[usize]) -> String {
    let mut text = String::new();
    let words = words_at(pages[number]).into_iter().enumerate();
    for (word, value) in words.filter(|(_, value)| *value != 0) {
        let to = pages.iter().position(|at| at.raw() == value >> 12 << 12);
        let value = match (links.contains(&word), to) {
            (true, Some(to)) => format!("link to page {to}"),
            _ if sums.contains(&word) => "sum".into(),
            _ => format!("{value:#x}"),
        };
        writeln!(text, "page {number} + {}: {value}", word * 8).expect("a String takes all");
    }
    text
}

/// The sum that roots and seals have, as `Documentation/abi.rst` says it.
fn sum(words: &[u64]) -> u64 {
    words.iter().fold(0, |sum: u64, word| {
        ((sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)).rotate_left(29)
    })
}

/// A link as `Documentation/abi.rst` says it.
fn link(at: PhysAddr, place: u64) -> u64 {
    let mixed = (at.raw() >> 12) ^ place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let check = (0..6).fold(0, |sum, part| sum ^ (mixed >> (12 * part)) & 0xfff);
    at.raw() | check
}

#[test]
fn kho_slab_1() {
    let mut kernel = Kernel::cold(small_machine());
    kernel.lend();
    let cache = Cache::create(b"golden", 40, 16).expect("memory");
    // Two pages of objects; some are free.
    let one = |_| cache.alloc(Sleep::May).expect("memory").phys();
    let objects: Vec<_> = (0..90).map(one).collect();
    cache
        .free(Somewhere::at(objects[1]), Sleep::May)
        .expect("allocated");
    cache
        .free(Somewhere::at(objects[88]), Sleep::May)
        .expect("allocated");
    let root = cache.handle();
    let index = PhysAddr::new(words_at(root)[10] >> 12 << 12);
    let pages = [
        root,
        index,
        objects[0].pfn().phys(),
        objects[89].pfn().phys(),
    ];
    let text = dump_linked(0, &pages, &[10], &[9]) + &dump_linked(1, &pages, &[2, 5], &[1]);
    demand("kho-slab-v1.txt", &text, OTHERWISE);
    let (first, entries) = (words_at(root), words_at(index));
    assert_eq!(first[9], sum(&[&first[..9], &[root.raw()]].concat()));
    assert_eq!(first[10], link(index, 0));
    let magic = u64::from_ne_bytes(*b"kho-slab");
    assert_eq!(entries[1], sum(&[root.raw(), index.raw(), 0, magic]));
    assert_eq!(entries[2], link(pages[2], 0));
    assert_eq!(entries[5], link(pages[3], 1));
}

#[test]
fn kho_array_1() {
    let mut kernel = Kernel::cold(small_machine());
    kernel.lend();
    let mut array = Array::create(b"golden").expect("memory");
    // A leaf by itself, and one below two tables.
    for (at, value) in [(2, 7), (64, 0), (504 * (512 * 3 + 5) + 503, 9)] {
        array.set(at, value).expect("memory");
    }
    let next = |at: PhysAddr, word: usize| PhysAddr::new(words_at(at)[word] >> 12 << 12);
    let root = array.handle();
    let mut pages = vec![root, next(root, 10), next(root, 12)];
    pages.push(next(pages[2], 3));
    pages.push(next(pages[3], 5));
    let text = [
        dump_linked(0, &pages, &[10, 12], &[9]),
        dump_linked(1, &pages, &[], &[]),
        dump_linked(2, &pages, &[3], &[]),
        dump_linked(3, &pages, &[5], &[]),
        dump_linked(4, &pages, &[], &[]),
    ];
    demand("kho-array-v1.txt", &text.concat(), OTHERWISE);
    let words = |page: usize, word: usize| words_at(pages[page])[word];
    let first = words_at(root);
    assert_eq!(first[9], sum(&[&first[..9], &[root.raw()]].concat()));
    assert_eq!(words(0, 10), link(pages[1], 0));
    assert_eq!(words(0, 12), link(pages[2], 2 << 60));
    assert_eq!(words(2, 3), link(pages[3], 1 << 60 ^ 3));
    assert_eq!(words(3, 5), link(pages[4], 512 * 3 + 5));
}

#[test]
fn eventfd_1() {
    let mut kernel = Kernel::cold(small_machine());
    let record = eventfd::a_file_handed_over(&mut kernel);
    demand("eventfd-v1.txt", &dump(&[record], &[]), OTHERWISE);
}

#[test]
fn memfd_2() {
    let mut kernel = Kernel::cold(small_machine());
    let (header, folios) = memfd::a_file_handed_over(&mut kernel);
    let words = words_at(header);
    let chunk = PhysAddr::new(words[4]);
    let table = PhysAddr::new(words_at(chunk)[1]);
    let text = dump(&[header, chunk, table], &folios);
    demand("memfd-v2.txt", &text, OTHERWISE);
}

#[test]
fn memfd_3() {
    let mut kernel = Kernel::cold(small_machine());
    let (header, folios) = memfd_sparse::a_file_handed_over(&mut kernel);
    let chunk = PhysAddr::new(words_at(header)[6]);
    let table = PhysAddr::new(words_at(chunk)[1]);
    // Of the checksum, which is over addresses, memfd_sparse.rs says what it is.
    let whole = dump(&[header, chunk, table], &folios);
    let lines = whole
        .lines()
        .filter(|line| !line.starts_with("page 0 + 64:"));
    let text = lines.fold(String::new(), |text, line| text + line + "\n");
    demand("memfd-v3.txt", &text, OTHERWISE);
}
