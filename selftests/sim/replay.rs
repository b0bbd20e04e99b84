// SPDX-License-Identifier: GPL-2.0

//! Every file of the fuzzers' corpora, once, on the stable toolchain; and the seeds they grew from.
//!
//! `SEEDS=1 cargo test --release -p liveupdate replay` writes the seeds to `fuzz/corpus`.

use std::fs;
use std::path::{Path, PathBuf};

use super::kernel::words_at;
use super::sample::Kind;
use super::targets::{self, pages_of, sample, Mode, Patch};
use crate::sys::machine::with;
use zerocopy::IntoBytes;

type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

const TARGETS: [Target; 5] = [
    ("fdt", targets::fdt, fdt_seeds),
    ("tree", targets::tree, tree_seeds),
    ("chains", targets::chains, chain_seeds),
    ("boot", targets::boot, boot_seeds),
    ("luo", targets::luo, luo_seeds),
];

const MAINLINE_FDT: &[u8] = include_bytes!("golden/mainline-7.3.4-root.fdt");
const MAINLINE_METADATA: &[u8] = include_bytes!("golden/mainline-7.3.4-kexec-metadata.bin");

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target)
}

/// Names the input under test if it fails.
struct Input(PathBuf);

impl Drop for Input {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("input: {}", self.0.display());
        }
    }
}

fn replay((name, target, seeds): Target) {
    let folder = corpus(name);
    if std::env::var_os("SEEDS").is_some() {
        fs::create_dir_all(&folder).expect("a folder for the seeds");
        for (i, seed) in seeds().iter().enumerate() {
            fs::write(folder.join(format!("seed-{i:02}")), seed).expect("a seed is written");
        }
    }
    let files = fs::read_dir(&folder).expect("the corpus is part of the project");
    let mut count = 0;
    for file in files {
        let input = Input(file.expect("readable").path());
        target(&fs::read(&input.0).expect("readable"));
        count += 1;
    }
    assert!(
        count >= seeds().len(),
        "the corpus of {name} has lost its seeds"
    );
    println!("{name}: {count} inputs");
}

#[test]
fn fdt() {
    replay(TARGETS[0]);
}

#[test]
fn tree() {
    replay(TARGETS[1]);
}

#[test]
fn chains() {
    replay(TARGETS[2]);
}

#[test]
fn boot() {
    replay(TARGETS[3]);
}

#[test]
fn luo() {
    replay(TARGETS[4]);
}

/// Pages of this target: 0 the root, 1 the FLBs, 2 and 3 the files of "one", 4 of "two", 5 of
/// "three", 6 of "last", 7 and 8 the list, 9 a stranger's.
fn luo_seeds() -> Vec<Vec<u8>> {
    vec![
        Vec::new(),
        patches(&[(8, Mode::Page, 0, 7)]),
        patches(&[(8, Mode::Page, 0, 5)]),
        patches(&[
            (8, Mode::Page, 0, 9),
            (9, Mode::Set, 0, 0),
            (9, Mode::Set, 1, 1),
        ]),
        patches(&[(7, Mode::Copy, 20, 4096), (7, Mode::Copy, 30, 2 + 7 * 512)]),
        patches(&[(7, Mode::Page, 20, 2)]),
        patches(&[(8, Mode::Page, 20, 5)]),
        patches(&[(7, Mode::Set, 1, 1 << 63)]),
        patches(&[(4, Mode::Set, 1, 0)]),
        patches(&[(4, Mode::Copy, 17, 4 * 512 + 9)]),
        patches(&[(0, Mode::Page, 2, 4)]),
        patches(&[
            (0, Mode::Page, 3, 9),
            (9, Mode::Set, 0, 1),
            (9, Mode::Set, 1, 0),
        ]),
        patches(&[(1, Mode::Set, 1, 64)]),
        patches(&[(1, Mode::Set, 9, u64::MAX)]),
        patches(&[(0, Mode::Frame, 2, 5000)]),
    ]
}

/// The sample's FDT page as it is handed over, cut to its size or whole.
fn own_fdt(whole: bool) -> Vec<u8> {
    let sample = sample();
    sample.boot(sample.handed, |_| {});
    let words: Vec<u64> = (0..512)
        .map(|i| sample.word(sample.handed.fdt, i))
        .collect();
    let bytes = words.as_bytes();
    let size = u32::from_be_bytes(bytes[4..8].try_into().expect("4 bytes")) as usize;
    bytes[..if whole { bytes.len() } else { size }].to_vec()
}

fn fdt_seeds() -> Vec<Vec<u8>> {
    vec![
        MAINLINE_FDT.to_vec(),
        MAINLINE_METADATA.to_vec(),
        own_fdt(false),
        own_fdt(true),
    ]
}

fn patches(list: &[(u8, Mode, u16, u64)]) -> Vec<u8> {
    let patch = |&(page, mode, word, value): &(u8, Mode, u16, u64)| {
        let patch = Patch {
            page,
            mode,
            word,
            value,
        };
        patch.write()
    };
    list.iter().flat_map(patch).collect()
}

fn tree_seeds() -> Vec<Vec<u8>> {
    let pages = pages_of(sample(), targets::TREE);
    let root = words_of(0);
    let slot = root.iter().position(|&word| word != 0).expect("not empty") as u16;
    let last = pages.len() as u8;
    let mut seeds = vec![
        Vec::new(),
        patches(&[(0, Mode::Set, slot, 1 << 40)]),
        patches(&[(0, Mode::Page, slot, 0)]),
        patches(&[(0, Mode::Copy, slot + 1, slot.into())]),
        patches(&[(0, Mode::Set, slot, 0)]),
        patches(&[(0, Mode::Page, slot + 1, u64::from(last - 1))]),
        patches(&[(0, Mode::Frame, slot, 5000)]),
    ];
    // A bit more in each node; in a leaf that is a key more.
    seeds.extend((0..last - 8).map(|page| patches(&[(page, Mode::Flip, 40, 1)])));
    seeds
}

fn words_of(page: usize) -> Vec<u64> {
    let at = pages_of(sample(), targets::TREE)[page];
    sample().boot(sample().handed, |_| {});
    (0..512).map(|i| sample().word(at, i)).collect()
}

/// Pages of this target: two chunks, three blocks, the record, then the folio's.
fn chain_seeds() -> Vec<Vec<u8>> {
    let kinds: Vec<Kind> = (sample().pages.iter())
        .map(|page| page.kind)
        .filter(|kind| targets::CHAINS.contains(kind))
        .collect();
    use Kind::{BlockHeader as B, Record as R, VmallocChunk as V};
    assert_eq!(kinds, [V, V, B, B, B, R]);
    vec![
        Vec::new(),
        patches(&[(1, Mode::Page, 0, 0)]),
        patches(&[(0, Mode::Page, 0, 0)]),
        patches(&[(4, Mode::Page, 0, 2)]),
        patches(&[(2, Mode::Set, 1, 1 << 63)]),
        patches(&[(2, Mode::Set, 1, 0)]),
        patches(&[(0, Mode::Copy, 1, 2)]),
        patches(&[(0, Mode::Page, 4, 2)]),
        patches(&[(5, Mode::Flip, 7, 1 << 48)]),
        patches(&[(5, Mode::Set, 7, u64::MAX)]),
        patches(&[(5, Mode::Page, 8, 0), (5, Mode::Page, 6, 2)]),
        patches(&[(5, Mode::Set, 5, u64::MAX)]),
    ]
}

fn boot_seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0]];
    for protocol in 1..8 {
        seeds.push(vec![protocol << 4]);
    }
    for fdt in [own_fdt(false), MAINLINE_FDT.to_vec()] {
        seeds.push([vec![0], fdt].concat());
    }
    for list in [tree_seeds(), chain_seeds()].concat() {
        seeds.push([vec![(list.len() / targets::PATCH) as u8], list].concat());
    }
    seeds
}

#[test]
fn a_patch_reads_as_written() {
    let bytes = patches(&[(3, Mode::Set, 7, 0x1234)]);
    let at = pages_of(sample(), targets::TREE)[3];
    sample().boot(sample().handed, |_| {
        let old = words_at(at);
        targets::patch(&pages_of(sample(), targets::TREE), &bytes);
        assert_eq!(with(|m| m.peek(at, 7)), 0x1234);
        assert_eq!(words_at(at)[8..], old[8..]);
    });
}
