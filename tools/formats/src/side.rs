// SPDX-License-Identifier: GPL-2.0
//! One side of an update: what a kernel reads and writes, and how that is known.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::image::{self, Found};
use crate::shared::catalogue::{self, Catalogue};
use crate::shared::encode::{access_text, Entry};
use crate::shared::mainline;
use crate::unpack::MOST;

/// A format of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Format {
    pub name: String,
    pub version: u32,
    pub reads: bool,
    pub writes: bool,
    /// Fingerprint of the layout, if it is known.
    pub layout: Option<u32>,
}

impl Format {
    pub(crate) fn shared(&self) -> catalogue::Format<'_> {
        let access = |has, bit| if has { bit } else { 0 };
        catalogue::Format {
            name: &self.name,
            version: self.version,
            access: access(self.reads, catalogue::READ) | access(self.writes, catalogue::WRITE),
            layout: self.layout.unwrap_or(0),
        }
    }

    /// `r`, `w`, `rw` or `-`.
    pub fn access(&self) -> &'static str {
        access_text(self.shared().access)
    }
}

impl From<catalogue::Format<'_>> for Format {
    fn from(format: catalogue::Format<'_>) -> Self {
        Self {
            name: format.name.into(),
            version: format.version,
            reads: format.access & catalogue::READ != 0,
            writes: format.access & catalogue::WRITE != 0,
            layout: Some(format.layout).filter(|layout| *layout != 0),
        }
    }
}

impl From<&Entry> for Format {
    fn from(entry: &Entry) -> Self {
        Self::from(catalogue::Format {
            name: &entry.name,
            version: entry.version,
            access: entry.access,
            layout: entry.layout,
        })
    }
}

/// How it is known what a kernel reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Its catalogue says so.
    Catalogue,
    /// It has none, and is of a release of mainline that is known.
    Release,
    /// It has none, and it was said that it is like mainline.
    Assumed,
    /// It is a module, and these are its own.
    Module,
    /// It is the running system.
    Running,
}

impl Origin {
    /// For a person.
    pub fn text(self) -> &'static str {
        match self {
            Self::Catalogue => "by its catalogue",
            Self::Release => "no catalogue; by its release, which is mainline's",
            Self::Assumed => "no catalogue; said to be as mainline",
            Self::Module => "by its own declarations",
            Self::Running => "the running system",
        }
    }
}

/// What one kernel has.
#[derive(Clone, Debug)]
pub struct Side {
    /// How it is called in messages: its path as given.
    pub name: String,
    /// What kind of file it is.
    pub kind: String,
    /// Its release; empty if it is not known.
    pub release: String,
    pub origin: Origin,
    /// What is on without a command line; see the catalogue's flags. 0 if there is none.
    pub flags: u32,
    pub formats: Vec<Format>,
}

impl Side {
    /// Reads the file of an image. One without a catalogue and of an unknown release is refused,
    /// unless `assume` says to take it for mainline's.
    ///
    /// # Errors
    ///
    /// A sentence that begins with the path.
    pub fn read(path: &Path, assume: bool) -> Result<Self, String> {
        let name = path.display().to_string();
        let mut data = Vec::new();
        let opened = File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut data));
        opened.map_err(|err| format!("{name}: cannot be read: {err}"))?;
        if data.len() as u64 == MOST {
            return Err(format!(
                "{name}: larger than {} GiB; is it an image of a kernel?",
                MOST >> 30
            ));
        }
        Self::of(&name, data, assume).map_err(|err| format!("{name}: {err}"))
    }

    /// The same of bytes in memory.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub fn of(name: &str, data: Vec<u8>, assume: bool) -> Result<Self, String> {
        let image = image::look(data)?;
        let side = |release: &str, origin, flags, formats| Self {
            name: name.into(),
            kind: image.kind.clone(),
            release: release.into(),
            origin,
            flags,
            formats,
        };
        let as_mainline = || mainline::formats().map(Format::from).collect();
        match &image.found {
            Found::Catalogue(bytes) => {
                let catalogue = Catalogue::parse(bytes).map_err(|f| f.text())?;
                let formats = catalogue.formats().map(Format::from).collect();
                Ok(side(catalogue.release(), Origin::Catalogue, catalogue.flags(), formats))
            }
            Found::Module(entries) => {
                let formats = entries.iter().map(Format::from).collect();
                Ok(side("", Origin::Module, 0, formats))
            }
            Found::Release(release) if mainline::is_known(release) => {
                Ok(side(release, Origin::Release, 0, as_mainline()))
            }
            Found::Release(release) if assume => {
                Ok(side(release, Origin::Assumed, 0, as_mainline()))
            }
            Found::Release(release) => Err(format!(
                "it has no catalogue of formats, and what release {release} reads is not known; if it \
                 reads what mainline 7.3 reads, say --unknown mainline"
            )),
            Found::Nothing if assume => Ok(side("", Origin::Assumed, 0, as_mainline())),
            Found::Nothing => Err(
                "it has no catalogue of formats and names no release; give the file of a kernel (vmlinux, \
                 bzImage, Image, one of these compressed, or a module), or say --unknown mainline"
                    .into(),
            ),
        }
    }

    /// Adds what a module brings.
    ///
    /// # Errors
    ///
    /// A sentence, if the side has one of its formats already.
    pub fn add_module(&mut self, module: &Self) -> Result<(), String> {
        if module.origin != Origin::Module {
            return Err(format!("{}: not a module", module.name));
        }
        for format in &module.formats {
            let same = |f: &&Format| (&f.name, f.version) == (&format.name, format.version);
            if self.formats.iter().any(|f| same(&f)) {
                return Err(format!(
                    "{}: version {} of the format {} is in {} already; only one of them can register it",
                    module.name, format.version, format.name, self.name
                ));
            }
            self.formats.push(format.clone());
        }
        Ok(())
    }

    pub(crate) fn shared(&self) -> impl Iterator<Item = catalogue::Format<'_>> + Clone {
        self.formats.iter().map(Format::shared)
    }
}
