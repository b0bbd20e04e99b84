// SPDX-License-Identifier: GPL-2.0

//! The formats that a loaded image reads, determined before it is booted.

use core::fmt::Write;

use super::catalogue::{Catalogue, Format, KHO_ON, READ, RELEASE};
use super::cmdline::{hides, Off, Switches};
use super::id::Id;
use super::memory::Changes;
use super::own::Declared;
use super::{mainline, release};
use crate::kho::audit::Wrong;
use crate::kho::outgoing::Outgoing;
use crate::kho::state;
use crate::luo::text::{escape, Text};
use crate::luo::window::Window;
use crate::sys::alloc::{Arc, KVVec, GFP_KERNEL};
use crate::sys::cmdline::{is_audited, unknown_is_mainline};
use crate::sys::error::{Result, ENOMEM, EPROTONOSUPPORT};
use crate::sys::{log, LoadedImage};

/// Formats that every handover contains. A kernel that lacks one of them cannot receive anything.
const REQUIRED: [(&str, u32); 5] = [
    ("kho", 4),
    ("radix", 1),
    ("kho-vmalloc", 1),
    ("kho-block", 1),
    ("luo", 5),
];

/// Mainline's switches are off unless its command line says otherwise; KHO's may be on by its
/// configuration, which cannot be seen.
const MAINLINE_FLAGS: u32 = KHO_ON;

/// The formats that an image reads.
pub(crate) enum Reads {
    /// These formats.
    These(KVVec<Declared>),
    Nothing(Why),
}

/// Why an image reads nothing.
#[derive(Clone, Copy)]
pub(crate) enum Why {
    /// It has no catalogue, and is of no release whose formats are known.
    Unknown,
    /// Its command line turns it off.
    Off(Off),
    /// It does not read one of [`REQUIRED`].
    Lacks(&'static str, u32),
}

impl log::Display for Why {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unknown => f.write_str(
                "it has no catalogue of formats, and is not a release that is known; liveupdate.unknown=mainline takes it for mainline",
            ),
            Self::Off(off) => f.write_str(off.text()),
            Self::Lacks(name, version) => write!(f, "it does not read {name} {version}"),
        }
    }
}

/// An image that may be booted next.
pub(crate) struct Image {
    release: Option<Text<{ RELEASE + 1 }>>,
    pub(crate) reads: Reads,
    /// What its command line makes of the memory that is handed over.
    memory: Changes,
}

impl log::Display for Image {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match &self.release {
            Some(release) => escape(release.text(), f),
            None => f.write_str("of unknown release"),
        }
    }
}

impl Image {
    /// Looks at the file of an image and the command line it will get. `refuse` is told why it must
    /// not be booted at all.
    ///
    /// # Errors
    ///
    /// [`EPROTONOSUPPORT`] for a catalogue that is damaged, `ENOMEM`.
    pub(crate) fn look_at(
        image: &[u8],
        cmdline: &[u8],
        refuse: impl FnOnce(core::fmt::Arguments<'_>),
    ) -> Result<Self> {
        let switches = Switches::parse(cmdline);
        let memory = Changes::parse(cmdline);
        match Catalogue::find(image) {
            Ok(Some(catalogue)) => {
                let release = Text::of(catalogue.release().as_bytes());
                let off = switches.off(catalogue.flags());
                let hidden = |format: &Format<'_>| {
                    hides(switches.hide, format.name.as_bytes(), format.version)
                };
                let formats = catalogue.formats().filter(|format| !hidden(format));
                Self::new(release, off, memory, formats)
            }
            Ok(None) => {
                let said = release::of(image);
                let release = said.and_then(|said| Text::of(said.as_bytes()));
                if said.is_some_and(mainline::is_known) || unknown_is_mainline() {
                    let off = switches.off(MAINLINE_FLAGS);
                    Self::new(release, off, memory, mainline::formats())
                } else {
                    let reads = Reads::Nothing(Why::Unknown);
                    Ok(Self {
                        release,
                        reads,
                        memory,
                    })
                }
            }
            Err(fault) => {
                refuse(log::fmt!(
                    "its catalogue of formats is damaged: {}; so may be the rest of it",
                    fault.text()
                ));
                Err(EPROTONOSUPPORT)
            }
        }
    }

    fn new<'a>(
        release: Option<Text<{ RELEASE + 1 }>>,
        off: Option<Off>,
        memory: Changes,
        formats: impl Iterator<Item = Format<'a>>,
    ) -> Result<Self> {
        if let Some(off) = off.filter(|off| *off != Off::Memtest || is_audited()) {
            let reads = Reads::Nothing(Why::Off(off));
            return Ok(Self {
                release,
                reads,
                memory,
            });
        }
        let mut list: KVVec<Declared> = KVVec::new();
        for declared in formats.filter_map(|format| Declared::new(&format)) {
            if declared.access & READ != 0 {
                list.push(declared, GFP_KERNEL)?;
            }
        }
        let lacks = REQUIRED.iter().find(|(name, version)| {
            Id::new(name, *version).is_none_or(|id| !list.iter().any(|read| read.id == id))
        });
        let reads = match lacks {
            Some((name, version)) => Reads::Nothing(Why::Lacks(name, *version)),
            None => Reads::These(list),
        };
        Ok(Self {
            release,
            reads,
            memory,
        })
    }

    /// Looks whether it will have all memory that is preserved, and whether that can be handed over
    /// at all. `tell` is told why not.
    ///
    /// # Errors
    ///
    /// [`EPROTONOSUPPORT`].
    pub(crate) fn audit(&self, tell: impl FnOnce(core::fmt::Arguments<'_>)) -> Result {
        if !is_audited() || matches!(self.reads, Reads::Nothing(_)) {
            return Ok(());
        }
        // Without a record nothing is preserved.
        let audited = state::outgoing(|out| Ok(out.audit(|ram| self.memory.apply(ram))));
        let Ok(Err(wrong)) = audited else {
            return Ok(());
        };
        let culprit = match wrong {
            Wrong::NotThere(at) | Wrong::RecordNotThere(at) => self.memory.culprit(at),
            _ => None,
        };
        match culprit {
            Some(change) => tell(log::fmt!("{wrong}: take {change} off its command line")),
            None => tell(log::fmt!("{wrong}")),
        }
        match wrong {
            Wrong::NoMemory => Err(ENOMEM),
            _ => Err(EPROTONOSUPPORT),
        }
    }

    /// Says in the log what it will not have, which is no reason not to boot it.
    pub(crate) fn warn(&self) {
        let Some(crash) = self.memory.crash() else {
            return;
        };
        let without = |out: &mut Outgoing| Ok(out.audit(|ram| ram.remove(crash)));
        if let Ok(Err(Wrong::NotThere(at))) = state::outgoing(without) {
            log::pr_warn!(
                "luo: image {self} will not have a crash kernel where crashkernel= says: memory at {:#x} is preserved\n",
                at.phys().raw()
            );
        }
    }

    /// Says in the log why nothing can be handed over to it, if that is so.
    pub(crate) fn say_why_not(&self) {
        if let Reads::Nothing(why) = &self.reads {
            log::pr_err!("luo: nothing can be handed over to image {self}: {why}\n");
        }
    }

    /// Says in the log what it reads.
    pub(crate) fn say(&self) {
        match &self.reads {
            Reads::These(_) => log::pr_info!("luo: image {self} can be handed over to\n"),
            Reads::Nothing(why) => log::pr_warn!(
                "luo: image {self} is loaded, and nothing can be handed over to it: {why}\n"
            ),
        }
    }
}

/// An image, by what it is known by.
type Known = (usize, Arc<Image>);

/// Which kernel boots next.
pub(crate) enum Target {
    /// Nobody knows: no image is loaded.
    Any,
    /// An image that was loaded, and looked at.
    Image(Arc<Image>),
    /// An image that nothing is handed over to: the old kexec_load loaded it.
    Unable,
}

/// The images that may be loaded.
pub(crate) struct Images {
    /// The last one that was looked at: it is loaded, or is being loaded, or could not be.
    last: Option<Known>,
    /// The one that was loaded then, if it was another.
    before: Option<Known>,
}

impl Images {
    pub(crate) const fn new() -> Self {
        Self {
            last: None,
            before: None,
        }
    }

    /// Takes note of an image that will be known by `key`, and forgets others but that of `loaded`.
    pub(crate) fn add(&mut self, key: usize, image: Arc<Image>, loaded: usize) {
        let known = [self.last.take(), self.before.take()].into_iter().flatten();
        self.before = known.into_iter().find(|(other, _)| *other == loaded);
        self.last = Some((key, image));
    }

    /// Which kernel boots next.
    pub(crate) fn target(&self, loaded: LoadedImage) -> Target {
        // The address of a freed image may be reused, so the most recent entry wins.
        let known = self.last.iter().chain(&self.before);
        let known = known.into_iter().find(|(key, _)| *key == loaded.key);
        match known {
            _ if loaded.key == 0 => Target::Any,
            Some((_, image)) if loaded.handed => Target::Image(image.clone()),
            _ => Target::Unable,
        }
    }

    /// Shows what boots next: a line for the image, and one for each format that it reads. Returns
    /// the length; what does not fit is cut.
    pub(crate) fn show(&self, loaded: LoadedImage, to: &mut [u8]) -> usize {
        let mut text = Window::new(to);
        // It takes everything.
        let _ = match self.target(loaded) {
            Target::Any => text.write_str("none"),
            Target::Unable => text.write_str("unable: loaded by kexec_load"),
            Target::Image(image) => {
                let image = &*image;
                match &image.reads {
                    Reads::Nothing(why) => text.write_fmt(log::fmt!("unable: {image}: {why}")),
                    Reads::These(list) => {
                        text.write_fmt(log::fmt!("ready: {image}")).and_then(|()| {
                            let mut lines = list.iter();
                            lines.try_for_each(|read| text.write_fmt(log::fmt!("\n{}", read.id)))
                        })
                    }
                }
            }
        };
        text.filled()
    }
}
