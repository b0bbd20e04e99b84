// SPDX-License-Identifier: GPL-2.0
//! The memfds that live through an update: how they are filled, checked, and how they lie in
//! physical memory.

use crate::pattern::{self, Depth};
use crate::sys::{Mapping, PAGE};
use anyhow::{bail, Context, Result};
use rustix::fs::{ftruncate, memfd_create, MemfdFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Has memfds made of huge pages until it is dropped.
pub struct HugePages {
    /// What the machine's owner wants.
    before: String,
}

impl HugePages {
    const POLICY: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

    pub fn on() -> Result<Self> {
        let choices = std::fs::read_to_string(Self::POLICY)
            .with_context(|| format!("cannot read {}", Self::POLICY))?;
        let chosen = choices
            .split_once('[')
            .and_then(|(_, rest)| rest.split_once(']'));
        let (before, _) = chosen.with_context(|| format!("{} has no choice", Self::POLICY))?;
        crate::machine::switch(Self::POLICY, "always")?;
        Ok(Self {
            before: before.to_owned(),
        })
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = crate::machine::switch(Self::POLICY, &self.before);
    }
}

/// Which pages a scenario wants.
#[derive(Clone, Copy)]
pub struct Wish {
    pub bytes: usize,
    pub depth: Depth,
    pub huge: bool,
    pub node: Option<u32>,
}

fn new_memfd(wish: &Wish) -> Result<(File, Mapping)> {
    let file = memfd_create("live", MemfdFlags::CLOEXEC).context("memfd_create failed")?;
    let length = u64::try_from(wish.bytes)?;
    ftruncate(&file, length).context("cannot size the memfd")?;
    let mapping = Mapping::new(&file, wish.bytes)?;
    if let Some(node) = wish.node {
        mapping.bind_to_node(node)?;
    }
    Ok((File::from(file), mapping))
}

/// A memfd with a pattern on every page.
pub fn filled(wish: &Wish, seed: u64) -> Result<File> {
    let _huge = wish.huge.then(HugePages::on).transpose()?;
    let (file, mut mapping) = new_memfd(wish)?;
    mapping.populate()?;
    pattern::fill(mapping.words_mut(), seed, wish.depth);
    Ok(file)
}

/// A memfd of which every page has a foreign neighbour: two are written page by page in turn, and
/// one is given back. Also says into how many physical runs the kept one has fallen.
pub fn fragmented(wish: &Wish, seed: u64) -> Result<(File, usize)> {
    let (kept_file, mut kept) = new_memfd(wish)?;
    let (dropped_file, mut dropped) = new_memfd(wish)?;
    let pages = kept
        .words_mut()
        .chunks_mut(pattern::WORDS)
        .zip(dropped.words_mut().chunks_mut(pattern::WORDS));
    for ((kept, dropped), number) in pages.zip(0u64..) {
        pattern::write(kept, seed, number, wish.depth);
        pattern::write(dropped, 0, number, Depth::Touch);
    }
    drop((dropped, dropped_file));
    let runs = physical_runs(&kept)?;
    Ok((kept_file, runs))
}

/// A memfd with a pattern on one page in so many, and holes between them.
pub fn sparse(wish: &Wish, every: usize, seed: u64) -> Result<File> {
    let (file, mut mapping) = new_memfd(wish)?;
    let pages = mapping.words_mut().chunks_mut(pattern::WORDS);
    for (page, number) in pages.zip(0u64..).step_by(every) {
        pattern::write(page, seed, number, wish.depth);
    }
    Ok(file)
}

fn wrong_length(file: &File, wish: &Wish) -> Result<Option<String>> {
    let (length, wanted) = (usize::try_from(file.metadata()?.len())?, wish.bytes);
    let wrong = length != wanted;
    Ok(wrong.then(|| format!("the memfd is {length} bytes long instead of {wanted}")))
}

/// Checks the pages that `sparse` wrote; says what is wrong, or nothing.
pub fn verify_sparse(file: &File, wish: &Wish, every: usize, seed: u64) -> Result<Option<String>> {
    if let Some(trouble) = wrong_length(file, wish)? {
        return Ok(Some(trouble));
    }
    let mapping = Mapping::new(file, wish.bytes)?;
    let mut pages = mapping.words().chunks(pattern::WORDS).zip(0u64..);
    let damaged = pages
        .by_ref()
        .step_by(every)
        .find(|(page, number)| !pattern::holds(page, seed, *number, wish.depth));
    Ok(damaged.map(|(_, number)| format!("page {number} is damaged")))
}

/// Checks every page; says what is wrong, or nothing.
pub fn verify(file: &File, wish: &Wish, seed: u64) -> Result<Option<String>> {
    if let Some(trouble) = wrong_length(file, wish)? {
        return Ok(Some(trouble));
    }
    let mapping = Mapping::new(file, wish.bytes)?;
    Ok(
        pattern::damage(mapping.words(), seed, wish.depth).map(|(first, count)| {
            format!(
                "{count} of {} pages are damaged, the first is page {first}",
                wish.bytes / PAGE
            )
        }),
    )
}

/// Number of physically contiguous runs the present pages of a mapping form, whatever their order
/// in the file.
fn physical_runs(mapping: &Mapping) -> Result<usize> {
    let mut frames = frames_of(mapping)?;
    frames.sort_unstable();
    let breaks = frames.windows(2).filter(|pair| pair[1] != pair[0] + 1);
    Ok(1 + breaks.count())
}

/// The frames of a memfd's pages, in the order of the file.
pub fn frames(file: &File, bytes: usize) -> Result<Vec<u64>> {
    let mapping = Mapping::new(file, bytes)?;
    mapping.populate()?;
    frames_of(&mapping)
}

fn frames_of(mapping: &Mapping) -> Result<Vec<u64>> {
    let pagemap = File::open("/proc/self/pagemap").context("cannot open /proc/self/pagemap")?;
    let pages = mapping.words().len() / pattern::WORDS;
    let mut entries = vec![0u8; pages * 8];
    let offset = u64::try_from(mapping.address() / PAGE * 8)?;
    pagemap.read_exact_at(&mut entries, offset)?;
    let frames: Vec<u64> = entries
        .chunks_exact(8)
        .filter_map(|entry| Some(u64::from_ne_bytes(entry.try_into().ok()?)))
        .filter(|entry| entry >> 63 == 1)
        .map(|entry| entry & ((1 << 55) - 1))
        .collect();
    if frames.len() != pages {
        bail!("only {} of {pages} pages are present", frames.len());
    }
    Ok(frames)
}
