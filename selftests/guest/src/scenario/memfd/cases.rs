// SPDX-License-Identifier: GPL-2.0
//! The files: how each is made, what is done to it once it is preserved, and what it must be
//! afterwards.

use super::swap;
use crate::machine;
use crate::memory::HugePages;
use crate::pattern::{self, Depth};
use crate::sys::{Mapping, PAGE};
use anyhow::{ensure, Context, Result};
use rustix::fs::{
    fallocate, fchmod, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create, FallocateFlags,
    MemfdFlags, Mode, SealFlags,
};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileExt, PermissionsExt};

const SEALABLE: MemfdFlags = MemfdFlags::ALLOW_SEALING;
const NOEXEC: MemfdFlags = MemfdFlags::NOEXEC_SEAL;
const SEAL: u32 = 1;
const SHRINK: u32 = 2;
const GROW: u32 = 4;
const WRITE: u32 = 8;
const FUTURE_WRITE: u32 = 16;
const EXEC: u32 = 32;

pub const MANY: u64 = 200;
/// Tokens from here on are of files that are alike.
pub const FIRST_OF_MANY: u64 = 1000;

pub struct Case {
    pub name: &'static str,
    flags: MemfdFlags,
    bytes: u64,
    /// Fills the file.
    fill: fn(&File, u64) -> Result<()>,
    seals: u32,
    position: u64,
    /// What is done after it was preserved.
    pub later: fn(&File) -> Result<()>,
    /// Permission bits it must have.
    mode: u32,
    /// Seals it must have: those asked for, and what these bring with them.
    sealed: u32,
    /// What it must hold.
    expect: fn(u64) -> Vec<u8>,
    /// Whether mainline's C carries it too.
    pub everywhere: bool,
    /// What the machine must have for it.
    pub needs: Needs,
}

const fn plain(name: &'static str, bytes: u64) -> Case {
    Case {
        name,
        flags: MemfdFlags::empty(),
        bytes,
        fill: write_all,
        seals: 0,
        position: 0,
        later: |_| Ok(()),
        mode: 0o777,
        sealed: SEAL,
        expect: full,
        everywhere: true,
        needs: Needs::Nothing,
    }
}

/// What a case needs beyond memory; the test machines have it all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    Swap,
    HugePages,
}

const fn sealed(name: &'static str, seals: u32) -> Case {
    Case {
        flags: SEALABLE,
        seals,
        sealed: seals,
        ..plain(name, 10_000)
    }
}

/// What F_SEAL_EXEC brings with it where there is something to execute.
const IMPLIED: u32 = SHRINK | GROW | WRITE | FUTURE_WRITE;

pub const ALL: &[Case] = &[
    plain("an empty file", 0),
    plain("a file of one byte", 1),
    plain("a file a byte short of a page", 4095),
    plain("a file a byte longer than a page", 4097),
    plain("a file of an odd size", 1_234_567),
    Case {
        fill: write_huge,
        needs: Needs::HugePages,
        ..plain("a file of huge pages, and a bit", (6 << 20) + 5)
    },
    Case {
        position: 1234,
        ..plain("a position", 4096)
    },
    Case {
        position: 1 << 40,
        ..plain("a position behind the end", 4096)
    },
    Case {
        position: 0,
        later: |mut file| {
            file.seek(SeekFrom::Start(0))?;
            Ok(())
        },
        ..plain("a position that changed after it was preserved", 4096)
    },
    sealed("a file that may be sealed", 0),
    sealed("F_SEAL_SEAL", SEAL),
    sealed("F_SEAL_SHRINK", SHRINK),
    sealed("F_SEAL_GROW", GROW),
    sealed("F_SEAL_WRITE", WRITE),
    sealed("F_SEAL_FUTURE_WRITE", FUTURE_WRITE),
    // Executable files are write-sealed with it. mainline: the same.
    Case {
        sealed: EXEC | IMPLIED,
        ..sealed("F_SEAL_EXEC", EXEC)
    },
    Case {
        sealed: SEAL | EXEC | IMPLIED,
        ..sealed("all six seals", SEAL | EXEC | IMPLIED)
    },
    // mainline makes an executable file of it and seals that against writing.
    Case {
        flags: NOEXEC,
        mode: 0o666,
        sealed: EXEC,
        everywhere: false,
        ..sealed("MFD_NOEXEC_SEAL", 0)
    },
    // What systemd keeps its state in. mainline: executable, as above.
    Case {
        flags: NOEXEC,
        mode: 0o666,
        sealed: EXEC | SEAL | SHRINK | GROW | WRITE,
        everywhere: false,
        ..sealed("MFD_NOEXEC_SEAL and seals", SEAL | SHRINK | GROW | WRITE)
    },
    // Added at the last moment. mainline loses it.
    Case {
        later: |file| seal(file, SHRINK),
        sealed: SHRINK,
        everywhere: false,
        ..sealed("a seal that was added after it was preserved", 0)
    },
    Case {
        fill: |file, bytes| {
            write_all(file, bytes)?;
            swap::out(file, bytes)
        },
        needs: Needs::Swap,
        ..plain("a file that was swapped out", 16 << 20)
    },
    Case {
        fill: |file, bytes| Ok(fallocate(file, FallocateFlags::empty(), 0, bytes)?),
        expect: |bytes| vec![0; bytes as usize],
        ..plain("pages that were allocated and never written", 1 << 20)
    },
    Case {
        fill: |file, bytes| Ok(fallocate(file, FallocateFlags::empty(), 0, bytes)?),
        later: |file| write_all(file, 1 << 20),
        ..plain("pages that were written after they were preserved", 1 << 20)
    },
    // Read through a mapping, they are there and clean; written then through another one that was
    // there before. A clean page is dropped when memory gets short: that is tried too.
    Case {
        fill: |file, bytes| {
            ftruncate(file, bytes)?;
            let mapping = Mapping::new(file, bytes as usize)?;
            ensure!(mapping.words().iter().all(|word| *word == 0), "not empty");
            Ok(())
        },
        later: |file| {
            let mut mapping = Mapping::new(file, 1 << 20)?;
            pattern::fill(mapping.words_mut(), 1 << 20, Depth::Full);
            Ok(())
        },
        ..plain("clean pages dirtied after they were preserved", 1 << 20)
    },
    // Huge pages, small ones, a hole, an odd end.
    Case {
        flags: SEALABLE,
        seals: SEAL | EXEC | IMPLIED,
        sealed: SEAL | EXEC | IMPLIED,
        position: 77_777,
        fill: |file, bytes| {
            in_huge_pages(2 << 20, || {
                file.write_all_at(&content(bytes, HUGE_PART), 0)?;
                Ok(())
            })?;
            file.write_all_at(b"end", bytes - 3)?;
            Ok(())
        },
        expect: |bytes| {
            let mut all = content(bytes, HUGE_PART);
            all.resize(bytes as usize - 3, 0);
            all.extend(b"end");
            all
        },
        needs: Needs::HugePages,
        ..plain("every property at once", (5 << 20) + 12_345)
    },
    Case {
        fill: |file, bytes| {
            ftruncate(file, bytes)?;
            file.write_all_at(b"end", bytes - 3)?;
            Ok(())
        },
        expect: |bytes| {
            let mut all = vec![0; bytes as usize - 3];
            all.extend(b"end");
            all
        },
        ..plain("a file with holes", 3 << 20)
    },
];

/// How much of the file that has every property is filled.
const HUGE_PART: u64 = 4 << 20;

impl Case {
    pub fn make(&self) -> Result<File> {
        let name = self.name.replace(' ', "-");
        // Said, as a machine may be set up to make them the other way round.
        let exec = match self.flags.contains(NOEXEC) {
            true => MemfdFlags::empty(),
            false => MemfdFlags::EXEC,
        };
        let flags = self.flags | exec | MemfdFlags::CLOEXEC;
        let file = File::from(memfd_create(name, flags)?);
        ftruncate(&file, self.bytes)?;
        (self.fill)(&file, self.bytes)?;
        if self.seals != 0 {
            seal(&file, self.seals)?;
        }
        (&file).seek(SeekFrom::Start(self.position))?;
        if self.flags.contains(NOEXEC) {
            let refused = fchmod(&file, Mode::from_raw_mode(0o777)).is_err();
            ensure!(refused, "F_SEAL_EXEC must hold here already");
        }
        Ok(file)
    }

    /// What is wrong with the file that came back.
    pub fn trouble(&self, file: &File) -> Result<Option<String>> {
        if let Some(trouble) = self.differs(file)? {
            return Ok(Some(trouble));
        }
        swap::out(file, self.bytes)?;
        self.lost(file, "once swapped out")
    }

    /// As it must be when it is preserved once more.
    pub fn again(&self, file: &File) -> Result<()> {
        match self.needs {
            Needs::Swap => swap::out(file, self.bytes),
            Needs::Nothing | Needs::HugePages => Ok(()),
        }
    }

    /// What of a file is not as it must be.
    pub fn differs(&self, mut file: &File) -> Result<Option<String>> {
        let about = file.metadata()?;
        let flags = rustix::fs::fcntl_getfl(file)?.bits();
        let seals = fcntl_get_seals(file)?.bits();
        let position = file.stream_position()?;
        let mode = about.permissions().mode() & 0o777;
        Ok(match self {
            _ if about.len() != self.bytes => Some(format!("{} bytes", about.len())),
            _ if seals != self.sealed => Some(format!("seals {seals:#x}")),
            _ if mode != self.mode => Some(format!("mode {mode:o}")),
            _ if position != self.position => Some(format!("position {position}")),
            // O_RDWR; the kernel's own O_LARGEFILE, which is 0 in libc.
            _ if flags & 3 != 2 || flags & 0o100_000 == 0 => Some(format!("flags {flags:#o}")),
            _ => self.lost(file, "at first")?,
        })
    }

    fn lost(&self, file: &File, when: &str) -> Result<Option<String>> {
        let mut found = vec![0; usize::try_from(self.bytes)?];
        file.read_exact_at(&mut found, 0)?;
        let expected = (self.expect)(self.bytes);
        let place = found.iter().zip(&expected).position(|(a, b)| a != b);
        Ok(place.map(|place| format!("{when}, byte {place} is wrong")))
    }
}

fn seal(file: &File, seals: u32) -> Result<()> {
    fcntl_add_seals(file, SealFlags::from_bits_retain(seals)).context("cannot add seals")
}

/// A pattern, whose seed is the file's size.
fn full(bytes: u64) -> Vec<u8> {
    content(bytes, bytes)
}

pub fn content(seed: u64, bytes: u64) -> Vec<u8> {
    let pages = (bytes as usize).div_ceil(PAGE);
    let mut words = vec![0; pages * pattern::WORDS];
    pattern::fill(&mut words, seed, Depth::Full);
    let mut all: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    all.truncate(bytes as usize);
    all
}

fn write_all(file: &File, bytes: u64) -> Result<()> {
    file.write_all_at(&full(bytes), 0)
        .context("cannot fill the file")
}

fn write_huge(file: &File, bytes: u64) -> Result<()> {
    in_huge_pages(6 << 20, || write_all(file, bytes))
}

/// Plays it with huge pages for shmem, of which it must use as many bytes.
fn in_huge_pages<T>(least: u64, play: impl FnOnce() -> Result<T>) -> Result<T> {
    let _huge = HugePages::on()?;
    let before = machine::memory_figure("/proc/meminfo", "ShmemHugePages")?;
    let played = play()?;
    let after = machine::memory_figure("/proc/meminfo", "ShmemHugePages")?;
    let huge = after.saturating_sub(before);
    ensure!(huge >= least, "only {huge} bytes are huge pages");
    Ok(played)
}

/// As [`filled`], in huge pages.
pub fn filled_huge(seed: u64, bytes: u64) -> Result<File> {
    in_huge_pages(bytes / 2, || filled(seed, bytes))
}

/// A file of a pattern.
pub fn filled(seed: u64, bytes: u64) -> Result<File> {
    let file = File::from(memfd_create("filled", MemfdFlags::CLOEXEC)?);
    file.write_all_at(&content(seed, bytes), 0)?;
    Ok(file)
}

/// What is wrong with a file that `filled` made.
pub fn damage(file: &File, seed: u64, bytes: u64) -> Result<Option<u64>> {
    let mut found = vec![0; usize::try_from(bytes)?];
    file.read_exact_at(&mut found, 0)?;
    let expected = content(seed, bytes);
    let place = found.iter().zip(&expected).position(|(a, b)| a != b);
    Ok(place.map(|place| place as u64))
}

pub fn one_of_many(number: u64) -> Result<File> {
    filled(number, PAGE as u64)
}
