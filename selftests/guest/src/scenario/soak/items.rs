// SPDX-License-Identifier: GPL-2.0
//! The files of the soak: memfds small, huge, sparse and swapped out, and eventfds, each with what
//! must be in it.

use crate::memory::{self, Wish};
use crate::pattern::{self, Depth};
use crate::sys::{Mapping, PAGE};
use anyhow::{bail, ensure, Context, Result};
use fastrand::Rng;
use rustix::event::{eventfd, EventfdFlags};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Write};

/// What an eventfd counts more once it was preserved.
const MORE: u64 = 3;

/// A file, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// Every `every`th page has the pattern of `seed`, and the others are holes. The first page has
    /// that of `late`, if it was written once the file was preserved.
    Memory {
        bytes: usize,
        every: usize,
        huge: bool,
        seed: u64,
        late: Option<u64>,
    },
    /// What an eventfd counts.
    Event { count: u64 },
}

impl Item {
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Memory { bytes, every, .. } => (bytes / every) as u64,
            Self::Event { .. } => 0,
        }
    }

    fn random(random: &mut Rng) -> Self {
        let seed = random.u64(1..1 << 40);
        match random.u8(0..10) {
            0 => Self::Event { count: seed },
            1 | 2 => Self::Memory {
                bytes: random.usize(1..=4) << 21,
                every: 1,
                huge: true,
                seed,
                late: None,
            },
            3 | 4 => Self::Memory {
                bytes: random.usize(64..=8192) * PAGE,
                every: random.usize(2..=40),
                huge: false,
                seed,
                late: None,
            },
            _ => Self::Memory {
                bytes: random.usize(1..=1024) * PAGE,
                every: 1,
                huge: false,
                seed,
                late: None,
            },
        }
    }

    /// As it is once [`Held::touch`] was called.
    pub fn touched(&self) -> Self {
        let mut after = self.clone();
        match &mut after {
            Self::Memory { seed, late, .. } => *late = Some(*seed + 1),
            Self::Event { count } => *count += MORE,
        }
        after
    }
}

/// A file that this kernel has.
pub struct Held {
    pub item: Item,
    pub file: File,
}

impl Held {
    pub fn make(random: &mut Rng) -> Result<Self> {
        let item = Item::random(random);
        let file = match &item {
            Item::Event { count } => {
                let mut file = File::from(eventfd(0, EventfdFlags::CLOEXEC)?);
                file.write_all(&count.to_ne_bytes())?;
                file
            }
            Item::Memory {
                bytes,
                every,
                huge,
                seed,
                ..
            } => {
                let wish = Wish {
                    bytes: *bytes,
                    depth: Depth::Full,
                    huge: *huge,
                    node: None,
                };
                match every {
                    1 => memory::filled(&wish, *seed)?,
                    _ => memory::sparse(&wish, *every, *seed)?,
                }
            }
        };
        Ok(Self { item, file })
    }

    /// Fails with words if the file is not as the item says.
    pub fn verify(&mut self) -> Result<()> {
        match &self.item {
            Item::Event { count } => {
                let mut bytes = [0; 8];
                self.file.read_exact(&mut bytes)?;
                let seen = u64::from_ne_bytes(bytes);
                ensure!(
                    seen == *count,
                    "an eventfd counts {seen} instead of {count}"
                );
                self.file.write_all(&bytes)?;
                Ok(())
            }
            Item::Memory {
                bytes,
                every,
                seed,
                late,
                ..
            } => {
                let length = self.file.metadata()?.len();
                ensure!(length == *bytes as u64, "{length} bytes instead of {bytes}");
                let mapping = Mapping::new(&self.file, *bytes)?;
                let pages = mapping.words().chunks(pattern::WORDS).zip(0u64..);
                for (page, number) in pages.step_by(*every) {
                    let seed = if number == 0 {
                        late.unwrap_or(*seed)
                    } else {
                        *seed
                    };
                    if !pattern::holds(page, seed, number, Depth::Full) {
                        bail!("page {number} of {} is damaged", bytes / PAGE);
                    }
                }
                Ok(())
            }
        }
    }

    /// Changes a little of it, as a program does whose file is preserved.
    pub fn touch(&mut self) -> Result<()> {
        let after = self.item.touched();
        match &after {
            Item::Event { .. } => self.file.write_all(&MORE.to_ne_bytes())?,
            Item::Memory { late, .. } => {
                let mut mapping = Mapping::new(&self.file, PAGE)?;
                let seed = late.context("a late page has a seed")?;
                pattern::write(mapping.words_mut(), seed, 0, Depth::Full);
            }
        }
        self.item = after;
        Ok(())
    }

    /// Writes all of it anew.
    pub fn rewrite(&mut self, random: &mut Rng) -> Result<()> {
        let Item::Memory {
            bytes,
            every,
            seed,
            late,
            ..
        } = &mut self.item
        else {
            return Ok(());
        };
        *seed = random.u64(1..1 << 40);
        *late = None;
        let mut mapping = Mapping::new(&self.file, *bytes)?;
        let pages = mapping.words_mut().chunks_mut(pattern::WORDS).zip(0u64..);
        for (page, number) in pages.step_by(*every) {
            pattern::write(page, *seed, number, Depth::Full);
        }
        Ok(())
    }

    /// Asks for it to go to the swap device. What is preserved is pinned and stays, and a hole is
    /// filled by the look at it.
    pub fn page_out(&self) -> Result<()> {
        match &self.item {
            Item::Memory { bytes, .. } => crate::sys::page_out(&self.file, *bytes),
            Item::Event { .. } => Ok(()),
        }
    }
}
