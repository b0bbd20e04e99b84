// SPDX-License-Identifier: GPL-2.0

//! Formats of a family of handlers are settled when the next image is loaded, at the latest when
//! the machine reboots; what would not be read is refused, and nothing is lost by it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::faults::starved;
use super::lab::{lab, text};
use super::world::{Outgoing, World};
use crate::kho::array::Array;
use crate::kho::slab::cache::Cache;
use crate::luo::formats::catalogue::{KHO_ON, LUO_ON, READ, WRITE};
use crate::luo::formats::catalogue_tests::encode;
use crate::luo::formats::id::Id;
use crate::luo::formats::mainline;
use crate::luo::formats::written::Verdict;
use crate::luo::incoming::Outcome;
use crate::luo::text::Compatible;
use crate::sys::alloc::{Arc, GFP_KERNEL};
use crate::sys::catalogue::build;
use crate::sys::cmdline::switches;
use crate::sys::driver::{FakeFile, File, Handler, Module, Ops};
use crate::sys::error::{Error, Result, EBUSY, EINVAL, EPROTONOSUPPORT};
use crate::sys::image::load;
use crate::sys::machine::with;
use crate::sys::LoadedImage;

/// What a conversion says that fails.
const FAILED: Error = Error(5);

/// A handler of a family, for one version: what it hands over is the version and the file.
struct Version {
    family: &'static Family,
    number: u32,
}

/// What the handlers of a family have in common.
#[derive(Default)]
struct Family {
    /// Version in which each file is preserved.
    kept: RefCell<BTreeMap<u64, u32>>,
    /// Conversions that still succeed.
    conversions: Cell<u32>,
    /// Each keeps something of its own in memory.
    apart: Cell<bool>,
    /// The one that takes files, if not all do.
    only: Cell<Option<u32>>,
}

struct Body;

const FAMILY: u64 = 1 << 20;

fn file(id: u64) -> File {
    let file = FakeFile {
        id: FAMILY | id,
        bytes: 1,
        inner: Box::new(Body),
    };
    Arc::new(file, GFP_KERNEL).unwrap()
}

impl Version {
    fn data(&self, file: &File) -> u64 {
        u64::from(self.number) << 32 | file.id
    }
}

impl Handler for Version {
    fn compatible(&self) -> Compatible {
        text(&format!("family-v{}", self.number))
    }

    fn module(&self) -> &'static Module {
        &lab().modules[0]
    }

    fn can_preserve(&self, file: &File) -> bool {
        let only = self.family.only.get();
        file.inner.is::<Body>() && only.is_none_or(|only| only == self.number)
    }

    fn preserve(&self, file: &File) -> Result<(u64, u64)> {
        let before = self.family.kept.borrow_mut().insert(file.id, self.number);
        assert!(before.is_none(), "preserved twice");
        Ok((self.data(file), 0))
    }

    fn unpreserve(&self, file: &File, data: u64, _: u64) {
        assert_eq!(data, self.data(file));
        let was = self.family.kept.borrow_mut().remove(&file.id);
        assert_eq!(was, Some(self.number));
    }

    fn freeze(&self, file: &File, data: u64) -> Result<u64> {
        assert_eq!(data, self.data(file));
        Ok(data)
    }

    fn unfreeze(&self, _: &File, _: u64) {}

    fn convert(&self, file: &File, data: u64, _: u64, from: u32) -> Result<(u64, u64)> {
        assert_eq!(data >> 32, from.into());
        let left = self.family.conversions.get();
        self.family.conversions.set(left.saturating_sub(1));
        if left == 0 {
            return Err(FAILED);
        }
        let was = self.family.kept.borrow_mut().insert(file.id, self.number);
        assert_eq!(was, Some(from));
        Ok((self.data(file), 0))
    }

    fn keeps(&self) -> u64 {
        match self.family.apart.get() {
            true => self.number.into(),
            false => 7,
        }
    }

    fn retrieve(&self, _: u64) -> Result<File> {
        Err(EINVAL)
    }

    fn can_finish(&self, _: u64, _: &Outcome) -> bool {
        true
    }

    fn finish(&self, _: u64, _: &Outcome) {}
}

/// The catalogue of a kernel with these versions of the family, beside what all have.
fn catalogue(versions: &[u32]) -> Vec<u8> {
    catalogue_and(versions, &[])
}

/// The same, with formats that it only reads.
fn catalogue_and(versions: &[u32], read: &[&str]) -> Vec<u8> {
    let both = READ | WRITE;
    let fixed = mainline::FORMATS
        .iter()
        .filter(|(name, _)| *name != "memfd");
    let fixed = fixed.map(|(name, version)| (name.to_string(), *version, both, 0));
    let family = versions.iter().map(|v| ("family".to_string(), *v, both, 0));
    let read = read.iter().map(|name| (name.to_string(), 1, READ, 0));
    let list: Vec<_> = fixed.chain(family).chain(read).collect();
    encode(&list, 0, None)
}

/// An image with that catalogue somewhere in it.
fn image(versions: &[u32]) -> Vec<u8> {
    image_with(&catalogue(versions))
}

fn image_with(catalogue: &[u8]) -> Vec<u8> {
    let mut image = vec![0x55; 4096];
    image.extend(catalogue);
    image.resize(8192, 0xaa);
    image
}

const ON: &[u8] = b"kho=on liveupdate=on\0";

/// A kernel with a family of handlers and a session.
struct Host {
    world: World,
    family: &'static Family,
    handlers: Vec<Ops>,
    session: Outgoing,
    key: usize,
}

impl Host {
    fn new(versions: &[u32]) -> Self {
        Self::built_with(versions, versions)
    }

    /// A kernel whose catalogue says something else.
    fn built_with(versions: &[u32], declared: &[u32]) -> Self {
        Self::built_from(versions, catalogue(declared))
    }

    fn built_from(versions: &[u32], catalogue: Vec<u8>) -> Self {
        build(catalogue.leak());
        switches(b"", false);
        load(LoadedImage::default());
        let world = World::cold();
        let family: &'static Family = Box::leak(Box::default());
        family.conversions.set(u32::MAX);
        let mut handlers = Vec::new();
        for number in versions {
            let number = *number;
            let version: &'static Version = Box::leak(Box::new(Version { family, number }));
            let ops = Ops::new(version);
            let mut drivers = world.luo.drivers.lock();
            drivers.register(ops, version.compatible()).unwrap();
            handlers.push(ops);
        }
        let session = world.create("s").unwrap();
        Self {
            world,
            family,
            handlers,
            session,
            key: 0,
        }
    }

    fn preserve(&self, id: u64) -> Result {
        self.world.preserve(&self.session, id, &file(id))
    }

    /// As kexec_file_load does.
    fn load(&mut self, image: &[u8], cmdline: &[u8]) -> Result {
        let key = self.key + 0x1000;
        self.world.luo.negotiate(key, image, cmdline)?;
        self.key = key;
        load(LoadedImage { key, handed: true });
        Ok(())
    }

    fn versions(&self) -> Vec<u32> {
        self.family.kept.borrow().values().copied().collect()
    }

    fn end(self) {
        self.world.close(self.session);
        assert!(self.family.kept.borrow().is_empty());
        load(LoadedImage::default());
        build(&[]);
        switches(b"", false);
    }
}

/// A cache that a driver has, which the image that is loaded does not read: a live update is
/// refused, and another kernel is booted with a warning.
#[test]
fn what_is_preserved_without_a_file_must_be_read_too() {
    let kinds = ["kho-slab", "kho-array"];
    for which in 0..2 {
        let mut host = Host::built_from(&[1], catalogue_and(&[1], &kinds));
        let reader = image_with(&catalogue_and(&[1], &kinds));
        let other = image_with(&catalogue_and(&[1], &[kinds[1 - which]]));
        let (mut slab, mut array) = (None, None);
        match which {
            0 => slab = Some(Cache::create(b"here", 64, 0).unwrap()),
            _ => array = Some(Array::create(b"here").unwrap()),
        }
        // One without a name is its owner's, whose format decides.
        let _unnamed = (
            Cache::create(b"", 8, 0).unwrap(),
            Array::create(b"").unwrap(),
        );
        with(|m| m.take_log());
        host.load(&reader, ON).unwrap();
        assert!(!with(|m| m.take_log()).concat().contains("does not read"));
        host.load(&other, ON).unwrap();
        let said = with(|m| m.take_log()).concat();
        assert!(
            said.contains(&format!("does not read {} 1", kinds[which])),
            "{said}"
        );
        host.preserve(1).unwrap();
        assert_eq!(host.world.luo.reboot(), Err(EPROTONOSUPPORT));
        assert_eq!(host.world.luo.state(), "operating");
        // It goes away, or the operator wants no more than another kernel.
        host.session.clear();
        host.world.luo.reboot().unwrap();
        drop((slab, array));
    }
}

#[test]
fn without_an_image_the_newest_is_written() {
    let host = Host::new(&[1, 3, 2]);
    host.preserve(1).unwrap();
    assert_eq!(host.versions(), [3]);
    host.end();
}

#[test]
fn an_image_decides_and_another_one_decides_again() {
    let mut host = Host::new(&[1, 2, 3]);
    host.preserve(1).unwrap();
    host.load(&image(&[1, 2]), ON).unwrap();
    host.preserve(2).unwrap();
    assert_eq!(host.versions(), [2, 2]);
    host.load(&image(&[1]), ON).unwrap();
    assert_eq!(host.versions(), [1, 1]);
    host.load(&image(&[3, 9]), ON).unwrap();
    assert_eq!(host.versions(), [3, 3]);
    host.end();
}

#[test]
fn an_image_that_reads_no_version_is_refused_and_the_one_before_stays() {
    let mut host = Host::new(&[2, 3]);
    host.preserve(1).unwrap();
    host.load(&image(&[2]), ON).unwrap();
    for versions in [&[][..], &[1, 4]] {
        // A family that a catalogue does not name at all is refused as this kernel's names it.
        assert_eq!(host.load(&image(versions), ON), Err(EPROTONOSUPPORT));
    }
    assert!(host.world.last_error().contains("would not read"));
    host.preserve(2).unwrap();
    assert_eq!(host.versions(), [2, 2]);
    host.world.luo.reboot().unwrap();
}

#[test]
fn what_an_image_does_not_read_is_not_preserved_after_it_was_loaded() {
    let mut host = Host::new(&[2, 3]);
    host.load(&image(&[1]), ON).unwrap();
    assert_eq!(host.preserve(1), Err(EPROTONOSUPPORT));
    host.load(&image(&[3]), ON).unwrap();
    host.preserve(1).unwrap();
    host.end();
}

#[test]
fn a_handler_that_no_catalogue_knows_joins_in() {
    // This kernel's says no word of the family, and neither does the next one's.
    let mut host = Host::built_with(&[1], &[]);
    host.load(&image(&[]), ON).unwrap();
    host.preserve(1).unwrap();
    // But where the next one has other versions, it is known that it does not read this one.
    assert_eq!(host.load(&image(&[7]), ON), Err(EPROTONOSUPPORT));
    host.end();
}

#[test]
fn a_damaged_catalogue_is_refused() {
    let mut host = Host::new(&[1]);
    let mut spoilt = image(&[1]);
    spoilt[4096 + 60] ^= 4;
    assert_eq!(host.load(&spoilt, ON), Err(EPROTONOSUPPORT));
    assert!(host.world.last_error().contains("checksum"));
    host.preserve(1).unwrap();
    host.end();
}

/// A bzImage as far as its header goes.
fn without_catalogue(release: &str) -> Vec<u8> {
    let mut image = vec![0; 8192];
    image[0x1f1] = 4;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    image[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
    image[0x300..0x300 + release.len()].copy_from_slice(release.as_bytes());
    image
}

#[test]
fn without_a_catalogue_the_release_decides() {
    let mut host = Host::new(&[1]);
    // Mainline has nothing of the family, this kernel's catalogue does.
    host.load(&without_catalogue("7.3.4 (x) #1"), ON).unwrap();
    assert_eq!(host.preserve(1), Err(EPROTONOSUPPORT));
    // Another release may be booted, but nothing is handed over to it.
    host.load(&without_catalogue("6.12.9 (x) #1"), ON).unwrap();
    assert_eq!(host.preserve(1), Err(EPROTONOSUPPORT));
    host.load(&image(&[1]), ON).unwrap();
    host.preserve(1).unwrap();
    let unknown = without_catalogue("6.12.9 (x) #1");
    assert_eq!(host.load(&unknown, ON), Err(EPROTONOSUPPORT));
    host.end();
}

#[test]
fn a_command_line_that_turns_it_off_is_refused() {
    let mut host = Host::new(&[1]);
    host.preserve(1).unwrap();
    for off in [
        &b"kho=on\0"[..],
        b"kho=off liveupdate=on\0",
        b"liveupdate=0 kho=1\0",
    ] {
        // The catalogue of these tests says that KHO is on by itself, the orchestrator is not.
        assert_eq!(host.load(&image(&[1]), off), Err(EPROTONOSUPPORT));
    }
    host.load(&image(&[1]), ON).unwrap();
    assert_eq!(KHO_ON | LUO_ON, 3);
    host.end();
}

#[test]
fn an_image_that_would_not_have_the_memory_is_refused() {
    let mut host = Host::new(&[1]);
    let reader = image(&[1]);
    // The machine has 32 MiB; the record lies somewhere in it.
    let lines: [(&[u8], &str); 5] = [
        (b"kho=on liveupdate=on mem=1M\0", "take mem="),
        (b"kho=on liveupdate=on memmap=31M$1M\0", "take memmap="),
        (
            b"kho=on liveupdate=on memmap=exactmap memmap=1M@1M\0",
            "take memmap=",
        ),
        (b"kho=on liveupdate=on cma=31M@1M\0", "take cma="),
        (b"kho=on liveupdate=on memtest=4\0", "memtest="),
    ];
    for (line, _) in lines {
        // Nothing is preserved: it may be booted, and takes nothing over.
        host.load(&reader, line).unwrap();
    }
    host.load(&reader, ON).unwrap();
    host.preserve(1).unwrap();
    for (line, word) in lines {
        with(|m| m.take_log());
        assert_eq!(host.load(&reader, line), Err(EPROTONOSUPPORT));
        let log = with(|m| m.take_log()).join("\n");
        assert!(
            log.contains("is not loaded") && (log.contains(word) || word == "memtest="),
            "{log}"
        );
        assert_eq!(host.versions(), [1]);
    }
    host.load(
        &reader,
        b"kho=on liveupdate=on memtest=0 mem=1G movable_node\0",
    )
    .unwrap();
    host.world.luo.reboot().unwrap();
}

#[test]
fn what_was_preserved_since_the_image_was_loaded_is_looked_at_again() {
    let mut host = Host::new(&[1]);
    let reader = image(&[1]);
    host.load(&reader, b"kho=on liveupdate=on mem=1M\0")
        .unwrap();
    host.preserve(1).unwrap();
    assert_eq!(host.world.luo.reboot(), Err(EPROTONOSUPPORT));
    assert_eq!(host.world.luo.state(), "operating");
    let said = host.world.last_error();
    assert!(
        said.contains("is not booted") && said.contains("take mem="),
        "{said}"
    );
    host.load(&reader, ON).unwrap();
    host.world.luo.reboot().unwrap();
}

#[test]
fn an_image_of_the_old_call_is_not_booted_while_files_are_preserved() {
    let host = Host::new(&[1]);
    host.preserve(1).unwrap();
    load(LoadedImage {
        key: 0x5000,
        handed: false,
    });
    assert_eq!(host.preserve(2), Err(EPROTONOSUPPORT));
    assert_eq!(host.world.luo.reboot(), Err(EPROTONOSUPPORT));
    assert_eq!(host.world.luo.state(), "operating");
    // A session without files is no reason.
    host.session.clear();
    host.world.luo.reboot().unwrap();
}

#[test]
fn what_was_preserved_while_the_image_was_loading_is_converted_at_the_reboot() {
    let host = Host::new(&[1, 2]);
    host.world.luo.negotiate(0x7000, &image(&[1]), ON).unwrap();
    host.preserve(1).unwrap();
    assert_eq!(host.versions(), [2]);
    load(LoadedImage {
        key: 0x7000,
        handed: true,
    });
    // Once in vain.
    host.family.conversions.set(0);
    assert_eq!(host.world.luo.reboot(), Err(FAILED));
    assert_eq!(host.versions(), [2]);
    host.family.conversions.set(9);
    host.world.luo.reboot().unwrap();
    assert_eq!(host.versions(), [1]);
}

#[test]
fn a_conversion_that_fails_leaves_each_file_whole() {
    let mut host = Host::new(&[1, 2]);
    for id in 0..4 {
        host.preserve(id).unwrap();
    }
    host.family.conversions.set(2);
    assert_eq!(host.load(&image(&[1]), ON), Err(FAILED));
    assert_eq!(host.versions(), [1, 1, 2, 2]);
    host.family.conversions.set(9);
    // To the image that boots next after all, whichever that is.
    host.load(&image(&[2]), ON).unwrap();
    assert_eq!(host.versions(), [2, 2, 2, 2]);
    host.end();
}

#[test]
fn what_the_next_command_line_hides_is_not_read() {
    let mut host = Host::new(&[1, 2]);
    host.preserve(1).unwrap();
    assert_eq!(host.versions(), [2]);
    let hide = |list: &str| format!("kho=on liveupdate=on liveupdate.hide={list}\0");
    host.load(&image(&[1, 2]), hide("family:2").as_bytes())
        .unwrap();
    assert_eq!(host.versions(), [1]);
    let both = hide("family:1,family:2");
    assert_eq!(
        host.load(&image(&[1, 2]), both.as_bytes()),
        Err(EPROTONOSUPPORT)
    );
    for other in ["", "family", "family:3", "family:22,amily:2", "x:2"] {
        host.load(&image(&[1, 2]), hide(other).as_bytes()).unwrap();
        assert_eq!(host.versions(), [2], "{other}");
    }
    host.end();
}

#[test]
fn a_handler_that_keeps_something_else_does_not_convert() {
    let mut host = Host::new(&[1, 2]);
    host.load(&image(&[1]), ON).unwrap();
    host.preserve(1).unwrap();
    host.family.apart.set(true);
    // It is as good as it is.
    host.load(&image(&[1, 2]), ON).unwrap();
    assert_eq!(host.versions(), [1]);
    assert_eq!(host.load(&image(&[2]), ON), Err(EPROTONOSUPPORT));
    assert_eq!(host.versions(), [1]);
    host.family.apart.set(false);
    host.load(&image(&[2]), ON).unwrap();
    assert_eq!(host.versions(), [2]);
    host.end();
}

#[test]
fn who_does_not_take_a_file_never_gets_it() {
    let mut host = Host::new(&[1, 2]);
    host.family.only.set(Some(1));
    host.preserve(1).unwrap();
    assert_eq!(host.versions(), [1]);
    host.load(&image(&[1, 2]), ON).unwrap();
    assert_eq!(host.versions(), [1]);
    assert_eq!(host.load(&image(&[2]), ON), Err(EPROTONOSUPPORT));
    assert_eq!(host.versions(), [1]);
    host.end();
}

#[test]
fn a_file_that_cannot_be_made_newer_stays() {
    let mut host = Host::new(&[1, 2]);
    host.load(&image(&[1]), ON).unwrap();
    host.preserve(1).unwrap();
    host.family.conversions.set(0);
    host.load(&image(&[1, 2]), ON).unwrap();
    assert_eq!(host.versions(), [1]);
    host.world.luo.reboot().unwrap();
    assert_eq!(host.versions(), [1]);
}

#[test]
fn a_file_whose_handler_is_gone_is_handed_over_as_it_is() {
    let mut host = Host::new(&[2]);
    host.preserve(1).unwrap();
    host.world.luo.drivers.lock().unregister(host.handlers[0]);
    assert_eq!(host.load(&image(&[1]), ON), Err(EPROTONOSUPPORT));
    host.load(&image(&[2]), ON).unwrap();
    host.world.luo.reboot().unwrap();
    assert_eq!(host.versions(), [2]);
}

#[test]
fn each_allocation_fails_once_while_an_image_is_loaded() {
    let mut host = Host::new(&[1, 2]);
    for id in 0..3 {
        host.preserve(id).unwrap();
    }
    let one = image(&[1]);
    let loading = || host.world.luo.negotiate(0x9000, &one, ON);
    let (failed, ()) = starved(&host.world, loading);
    assert!(failed >= 3, "{failed} allocations");
    assert_eq!(host.versions(), [1, 1, 1]);
    host.load(&image(&[2]), ON).unwrap();
    assert_eq!(host.versions(), [2, 2, 2]);
    host.end();
}

#[test]
fn a_version_can_be_turned_off_for_writing() {
    let mut host = Host::new(&[1, 2]);
    let [one, two] = [1, 2].map(|version| Id::new("family", version).unwrap());
    let users = |host: &Host| [&one, &two].map(|id| host.world.luo.format(id).unwrap().users);
    host.preserve(1).unwrap();
    assert_eq!(users(&host), [0, 1]);
    host.world.luo.enable(&two, false).unwrap();
    assert_eq!(users(&host), [1, 0]);
    host.preserve(2).unwrap();
    assert_eq!(users(&host), [2, 0]);
    // Nothing would be left to write them in.
    assert_eq!(host.world.luo.enable(&one, false), Err(EBUSY));
    assert_eq!(host.world.luo.format(&one).unwrap().enabled, Some(true));
    assert_eq!(host.load(&image(&[2]), ON), Err(EPROTONOSUPPORT));
    host.world.luo.enable(&two, true).unwrap();
    assert_eq!(users(&host), [0, 2]);
    assert!(host
        .world
        .luo
        .enable(&Id::new("kho", 4).unwrap(), false)
        .is_err());
    host.end();
}

#[test]
fn the_next_kernel_is_told_what_was_written() {
    let mut host = Host::new(&[1, 2]);
    host.load(&image(&[1, 3]), ON).unwrap();
    host.preserve(1).unwrap();
    host.world.luo.reboot().unwrap();
    let Host { world, session, .. } = host;
    std::mem::forget(session);
    let handed = world.kexec();
    build(catalogue(&[1, 3]).leak());
    let next = World::warm(handed);
    let verdict = |name: &str, version| {
        let id = Id::new(name, version).unwrap();
        let found = next.luo.arrivals.iter().find(|a| a.format == id);
        found.map(|arrival| arrival.verdict)
    };
    assert_eq!(verdict("luo", 5), Some(Verdict::Readable));
    assert_eq!(verdict("family", 1), Some(Verdict::Old));
    assert_eq!(verdict("family", 2), None);
    let mut text = [0; 1024];
    let len = next.luo.arrived_formats(&mut text);
    let text = std::str::from_utf8(&text[..len]).unwrap();
    assert!(text.contains("family 1 readable, old\n") || text.ends_with("family 1 readable, old"));
    load(LoadedImage::default());
    build(&[]);
}

#[test]
fn what_cannot_be_read_is_named() {
    let host = Host::new(&[2]);
    host.preserve(1).unwrap();
    host.world.luo.reboot().unwrap();
    let Host { world, session, .. } = host;
    std::mem::forget(session);
    let handed = world.kexec();
    build(catalogue(&[1]).leak());
    let next = World::warm(handed);
    let arrivals = &next.luo.arrivals;
    let bad: Vec<_> = arrivals
        .iter()
        .filter(|a| a.verdict == Verdict::Unreadable)
        .collect();
    assert_eq!(bad.len(), 1);
    assert!(next.last_error().contains("family 2 arrived"));
    build(&[]);
}
