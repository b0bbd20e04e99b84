// SPDX-License-Identifier: GPL-2.0

//! Live update orchestrator: file descriptors, in sessions, carried from one kernel to the next.
//!
//! [`Luo`] is all of it. [`outgoing`] sessions hold files that will be handed over, [`incoming`]
//! ones hold what arrived; [`drivers`] knows who can preserve what, [`ids`] whose each file is,
//! [`flb`] what files share. [`root`] is where the next kernel starts to read.
//!
//! # States
//!
//! Operating, until [`Luo::reboot`] closes the gate and freezes; then frozen, until the machine
//! jumps. If anything fails before that, all is unfrozen, the gate opens, and the system runs on.
//!
//! # Lock order
//!
//! The gate, a session (outgoing, or arrived) or the root, an FLB, then one of: the list of
//! outgoing sessions, the registry, the identities. KHO's own come after all of these. Handlers are
//! called with the gate and their session held, and nothing else but, for an FLB's operations, that
//! FLB's lock.

pub(crate) mod arrival;
#[cfg(any(
    all(CONFIG_KEXEC_HANDOVER_DEBUG, CONFIG_KEXEC_HANDOVER_DEBUGFS),
    not(kernel)
))]
pub(crate) mod corrupt;
pub(crate) mod drivers;
pub(crate) mod flb;
pub(crate) mod format;
pub(crate) mod formats;
pub(crate) mod ids;
pub(crate) mod incoming;
pub(crate) mod ioctl;
#[cfg(any(CONFIG_LIVEUPDATE_EVENTFD, CONFIG_LIVEUPDATE_MEMFD, not(kernel)))]
pub(crate) mod memory;
pub(crate) mod outgoing;
#[cfg(any(CONFIG_LIVEUPDATE_EVENTFD, not(kernel)))]
pub(crate) mod records;
pub(crate) mod report;
pub(crate) mod root;
pub(crate) mod text;
pub(crate) mod window;

use core::fmt::Arguments;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::kho::addr::PhysAddr;
use crate::sys::alloc::{Arc, KVVec};
use crate::sys::cmdline::on_error;
use crate::sys::driver::{File, Flb, Object};
use crate::sys::error::{Result, EBADMSG, EINVAL, ENODATA, ENOENT, EPROTONOSUPPORT};
use crate::sys::gate::{Gate, Operating};
use crate::sys::image::loaded_image;
use crate::sys::lock::{locked, Locked};
use crate::sys::log;
use arrival::Arrival;
use drivers::Drivers;
use format::NAME;
use formats::choice::{Choice, Target};
use formats::image::Images;
use formats::own::Own;
use formats::written::{self, Verdict, Written};
use ids::Ids;
use report::{Bookmark, LastError};
use root::{Root, Unreadable};
use text::{Compatible, Name};

/// The records that the previous kernel left.
pub(crate) enum Left {
    /// Nothing: this is a cold boot, or there was no orchestrator.
    Nothing,
    /// A root of so many bytes at an address.
    Root(PhysAddr, usize),
    /// Something of a version that KHO does not read.
    OtherVersion,
    /// Something that KHO has refused.
    Lost,
}

/// The orchestrator of a running kernel.
pub(crate) struct Luo {
    gate: Gate,
    /// The formats in this kernel's catalogue.
    pub(crate) own: Own,
    /// The formats that arrived.
    pub(crate) arrivals: KVVec<written::Arrival>,
    images: Locked<Images>,
    written: Locked<Option<Written>>,
    pub(crate) drivers: Locked<Drivers>,
    ids: Arc<Ids>,
    outgoing: Locked<outgoing::Sessions>,
    arrived: incoming::Sessions,
    flbs: Result<KVVec<flb::Arrived>>,
    /// Updates so far, as the previous kernel counted them.
    pub(crate) number: u64,
    root: Locked<Option<Root>>,
    frozen: AtomicBool,
    /// What arrived, as far as it is not found damaged later.
    arrival: Arrival,
    damaged: AtomicBool,
    last_error: LastError,
    bookmark: Bookmark,
}

impl Luo {
    /// Starts, early in the boot: reads what the previous kernel left. A fault is logged and
    /// affects only the session or FLB it was found in.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn start(left: Left) -> Result<Self> {
        let mut luo = Self {
            gate: Gate::new(),
            own: Own::read()?,
            arrivals: KVVec::new(),
            images: locked!(Images::new(), "luo_images")?,
            written: locked!(None, "luo_written")?,
            drivers: locked!(Drivers::new(), "luo_drivers")?,
            ids: Ids::new()?,
            outgoing: locked!(outgoing::Sessions::new(), "luo_outgoing")?,
            arrived: incoming::Sessions::none(),
            flbs: Err(ENODATA),
            number: 0,
            root: locked!(None, "luo_root")?,
            frozen: AtomicBool::new(false),
            arrival: Arrival::Nothing,
            damaged: AtomicBool::new(false),
            last_error: LastError::new()?,
            bookmark: Bookmark::new()?,
        };
        match left {
            Left::Nothing => {}
            Left::Root(at, size) => luo.read(at, size)?,
            Left::OtherVersion => {
                luo.lost(
                    log::fmt!("KHO does not read its version"),
                    Arrival::OtherVersion,
                );
            }
            Left::Lost => luo.lost(log::fmt!("KHO does not have it"), Arrival::Damaged),
        }
        Ok(luo)
    }

    fn read(&mut self, at: PhysAddr, size: usize) -> Result {
        match root::read(at, size, |what| self.damage(what)) {
            Ok(left) => {
                self.arrival = Arrival::Whole;
                self.number = left.number;
                self.flbs = left.flbs;
                self.arrived =
                    incoming::Sessions::read(left.sessions, left.blocks, |what| self.damage(what))?;
                if self.arrived.list().is_empty() {
                    self.free_blocks();
                }
            }
            Err(why) => {
                let arrival = match why {
                    Unreadable::Format(_) => Arrival::OtherVersion,
                    _ => Arrival::Damaged,
                };
                self.lost(log::fmt!("{why}"), arrival);
            }
        }
        Ok(())
    }

    /// Nothing of what was left can be read.
    fn lost(&mut self, why: Arguments<'_>, arrival: Arrival) {
        self.arrived = incoming::Sessions::lost();
        self.flbs = Err(EBADMSG);
        self.damage(log::fmt!(
            "what the previous kernel left cannot be read: {why}"
        ));
        self.arrival = arrival;
    }

    /// What arrived, as a whole.
    pub(crate) fn arrival(&self) -> Arrival {
        let unread = |arrived: &written::Arrival| arrived.verdict == Verdict::Unreadable;
        match self.arrival {
            Arrival::Whole if self.damaged.load(Ordering::Relaxed) => Arrival::Damaged,
            Arrival::Whole if self.arrivals.iter().any(unread) => Arrival::OtherVersion,
            other => other,
        }
    }

    /// What arrived of an FLB; see [`arrival::of_flb`].
    pub(crate) fn flb_arrival(&self, name: &Compatible) -> Result {
        match self.arrival {
            Arrival::OtherVersion => self.arrival.result(),
            _ => arrival::of_flb(name, self.flb_table()),
        }
    }

    /// Ready to hand over, once the kernel's own services are there.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn publish(&self) -> Result {
        let root = Root::publish(self.number.saturating_add(1))?;
        let written = Written::publish()?;
        *self.root.lock() = Some(root);
        *self.written.lock() = Some(written);
        Ok(())
    }

    /// Reads the previous kernel's list of formats, `size` bytes at `at`, and validates it. Without
    /// a list, each record is identified by its own compatible string.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn judge(&mut self, at: PhysAddr, size: usize) -> Result {
        self.arrivals = written::read(&self.own, at, size, |what| self.tell(what))?;
        Ok(())
    }

    /// Says that something that arrived is damaged, where an operator will find it. What is damaged
    /// stays as it is; the rest goes on, unless the operator wants the machine to stop then.
    fn damage(&self, what: Arguments<'_>) {
        self.damaged.store(true, Ordering::Relaxed);
        self.tell(what);
    }

    /// Says something where an operator will find it, and stops the machine if that is wanted then.
    fn tell(&self, what: Arguments<'_>) {
        log::pr_err!("luo: {what}\n");
        self.last_error.set(what);
        on_error(what);
    }

    /// Enters the gate: no reboot freezes anything before the result is dropped.
    ///
    /// # Errors
    ///
    /// `EINTR` if the caller was killed while it waited.
    pub(crate) fn operate(&self) -> Result<Operating<'_>> {
        self.gate.enter()
    }

    /// As [`Self::operate`], for callers that must not fail.
    pub(crate) fn operate_always(&self) -> Operating<'_> {
        self.gate.enter_always()
    }

    /// Makes an outgoing session.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for a name that is empty or not terminated, `EEXIST` for one in use, `ENOSPC`,
    /// `ENOMEM`.
    pub(crate) fn create(
        &self,
        _: &Operating<'_>,
        name: &[u8; NAME],
    ) -> Result<Arc<outgoing::Session>> {
        let name = Name::new(name).ok_or(EINVAL)?;
        self.outgoing.lock().create(name)
    }

    /// Preserves a file in an outgoing session; see [`outgoing::Session::preserve`].
    pub(crate) fn preserve(
        &self,
        _: &Operating<'_>,
        session: &outgoing::Session,
        token: u64,
        file: impl FnOnce() -> Result<File>,
    ) -> Result {
        session.preserve(token, file, &self.drivers, &self.choice(), &self.ids)
    }

    /// The formats that may be written now.
    fn choice(&self) -> Choice<'_> {
        Choice {
            own: &self.own,
            target: self.images.lock().target(loaded_image()),
        }
    }

    /// An image is being loaded that may be booted next: its file, its command line, and what it is
    /// known by once it is loaded. Files that are preserved are written so that it reads them, if
    /// need be.
    ///
    /// # Errors
    ///
    /// [`EPROTONOSUPPORT`] if its catalogue is damaged, or it would not read what is preserved now;
    /// what a handler says; `ENOMEM`, `EINTR`. Nothing is lost then, and an image that was loaded
    /// before remains what boots next.
    pub(crate) fn negotiate(&self, key: usize, image: &[u8], cmdline: &[u8]) -> Result {
        let _operating = self.operate()?;
        let looked_at = formats::image::Image::look_at(image, cmdline, |why| {
            log::pr_err!("luo: the image is not loaded: {why}\n");
            self.last_error
                .set(log::fmt!("an image was not loaded: {why}"));
        })?;
        let looked_at = Arc::new(looked_at, crate::sys::alloc::GFP_KERNEL)?;
        self.audit(&looked_at, "is not loaded")?;
        looked_at.warn();
        let choice = Choice {
            own: &self.own,
            target: Target::Image(looked_at.clone()),
        };
        if let Err(err) = outgoing::settle(&self.outgoing, &self.drivers, &choice) {
            let image = &*looked_at;
            image.say_why_not();
            log::pr_err!(
                "luo: image {image} is not loaded, as it would not read what is preserved\n"
            );
            self.last_error.set(log::fmt!(
                "image {image} was not loaded, as it would not read what is preserved: {err:?}"
            ));
            return Err(err);
        }
        looked_at.say();
        // It is not refused yet: this cannot fail.
        let _ = formats::structures::check(&choice, false);
        self.images.lock().add(key, looked_at, loaded_image().key);
        Ok(())
    }

    /// Looks whether an image could take over what is preserved. Where not, that is said: it is
    /// reason to refuse a live update, but none to refuse a mere change of kernels.
    ///
    /// # Errors
    ///
    /// [`EPROTONOSUPPORT`], `ENOMEM`, if files are preserved.
    fn audit(&self, image: &formats::image::Image, refused: &str) -> Result {
        let files = outgoing::any(&self.outgoing);
        let audited = image.audit(|why| match files {
            true => {
                log::pr_err!("luo: image {image} {refused}: {why}\n");
                self.last_error
                    .set(log::fmt!("image {image} {refused}: {why}"));
            }
            false => log::pr_warn!("luo: image {image} will not take anything over: {why}\n"),
        });
        match files {
            true => audited,
            false => Ok(()),
        }
    }

    /// Lets a format be written from now on, or not. Files that are preserved in it are written in
    /// another version at once.
    ///
    /// # Errors
    ///
    /// `ENODEV` if it is not a handler's, `EBUSY` if files are preserved in it that cannot be
    /// written otherwise, what a handler says. It may be written as before then; files are in it or
    /// in another version.
    pub(crate) fn enable(&self, format: &formats::id::Id, on: bool) -> Result {
        let _operating = self.operate()?;
        let before = self.drivers.lock().enable(format, on)?;
        let settled = outgoing::settle(&self.outgoing, &self.drivers, &self.choice());
        if settled.is_err() {
            // It is there: `before` is what it said.
            let _ = self.drivers.lock().enable(format, before);
        }
        settled.map_err(|err| match err {
            EPROTONOSUPPORT => crate::sys::error::EBUSY,
            other => other,
        })
    }

    /// Describes the image that boots next to an operator; see [`Images::show`].
    pub(crate) fn loaded(&self, to: &mut [u8]) -> usize {
        self.images.lock().show(loaded_image(), to)
    }

    /// Gives up an outgoing session and all it preserves.
    pub(crate) fn close_outgoing(&self, _: &Operating<'_>, session: &outgoing::Session) {
        session.clear();
        self.outgoing.lock().remove(session);
    }

    /// Opens a session that arrived.
    ///
    /// # Errors
    ///
    /// [`ENOENT`] if none of that name did, [`EBADMSG`] if it is damaged, or one of that name may
    /// have been where nothing can be read any more; [`EINVAL`] if it is open; `ENOMEM`.
    pub(crate) fn retrieve_session(
        &self,
        _: &Operating<'_>,
        name: &[u8; NAME],
    ) -> Result<Arc<incoming::Session>> {
        let name = Name::new(name).ok_or(ENOENT)?;
        let session = self.arrived.find(&name)?;
        session.open(|what| self.damage(what))?;
        Ok(session)
    }

    /// The file of a token; see [`incoming::Session::retrieve`].
    pub(crate) fn retrieve(
        &self,
        _: &Operating<'_>,
        session: &incoming::Session,
        token: u64,
    ) -> Result<File> {
        session.retrieve(token, &self.drivers, &self.ids)
    }

    /// See [`incoming::Session::finish`].
    pub(crate) fn finish(&self, _: &Operating<'_>, session: &incoming::Session) -> Result {
        session.finish(&self.drivers, self.flb_table())
    }

    /// See [`incoming::Session::close`].
    pub(crate) fn close_incoming(&self, _: &Operating<'_>, session: &incoming::Session) {
        if session.close(&self.drivers, self.flb_table()) && self.arrived.closed() {
            self.free_blocks();
        }
    }

    /// Frees what was read once all who own something of what arrived have had it. Where something
    /// is damaged, nobody knows who that is.
    fn free_blocks(&self) {
        if !matches!(self.flbs, Err(EBADMSG)) {
            self.arrived.free_blocks();
        }
    }

    fn flb_table(&self) -> flb::Table<'_> {
        match &self.flbs {
            Ok(list) => Ok(list),
            Err(err) => Err(*err),
        }
    }

    /// The object of an FLB that arrived, held until [`Self::put_incoming`].
    pub(crate) fn get_incoming(&self, flb: Flb, name: Compatible) -> Result<Object> {
        flb::get_incoming(flb, name, self.flb_table())
    }

    /// Undoes [`Self::get_incoming`].
    pub(crate) fn put_incoming(&self, flb: Flb, name: Compatible) {
        flb::put_incoming(flb, name, self.flb_table());
    }

    /// Whether a file is in an outgoing session. A driver may ask in any of its operations.
    pub(crate) fn is_preserved(&self, file: &File) -> bool {
        drivers::of_file(&self.drivers, file)
            .is_ok_and(|driver| self.ids.is_outgoing(driver.ops.id(file)))
    }

    /// Freezes everything and writes it down. On success the gate stays closed until the machine
    /// jumps.
    ///
    /// # Errors
    ///
    /// What a handler says; everything is as it was then.
    pub(crate) fn reboot(&self) -> Result {
        self.gate.close();
        self.frozen.store(true, Ordering::Relaxed);
        let unfinished = self.arrived.unfinished();
        if unfinished > 0 {
            log::pr_warn!(
                "luo: {unfinished} sessions of the last update are not finished; what was not retrieved of them is lost now\n"
            );
        }
        let serialised = self.serialise();
        if let Err(err) = serialised {
            // Who has found that it would be lost has said so.
            if err != EPROTONOSUPPORT {
                self.last_error.set(log::fmt!(
                    "reboot refused, as a file could not be frozen: {err:?}"
                ));
            }
            self.frozen.store(false, Ordering::Relaxed);
            self.gate.open();
        }
        serialised
    }

    fn serialise(&self) -> Result {
        // Without it nothing could be preserved.
        if self.root.lock().is_none() {
            return Err(EINVAL);
        }
        let choice = self.choice();
        let unread = |err| {
            if err == EPROTONOSUPPORT {
                self.last_error.set(log::fmt!(
                    "reboot refused, as the loaded image does not read what is preserved"
                ));
            }
            err
        };
        if matches!(choice.target, Target::Unable) && outgoing::any(&self.outgoing) {
            log::pr_err!(
                "luo: no reboot: files are preserved, and the image was loaded by kexec_load, which hands nothing over; load it by kexec_file_load (kexec -s), or close the sessions\n"
            );
            return Err(unread(EPROTONOSUPPORT));
        }
        formats::structures::check(&choice, outgoing::any(&self.outgoing)).map_err(unread)?;
        if let Target::Image(image) = &choice.target {
            self.audit(image, "is not booted")?;
        }
        let head = outgoing::serialise(&self.outgoing, &self.drivers, &choice).map_err(unread)?;
        if let Some(root) = &mut *self.root.lock() {
            root.set_sessions(head);
            root.write_flbs(&self.drivers);
        }
        if let Some(written) = &mut *self.written.lock() {
            written.write(&self.drivers);
        }
        Ok(())
    }

    /// "operating", "frozen", or "updated": running, with sessions that nobody has finished.
    pub(crate) fn state(&self) -> &'static str {
        if self.frozen.load(Ordering::Relaxed) {
            "frozen"
        } else if self.arrived.unfinished() > 0 {
            "updated"
        } else {
            "operating"
        }
    }

    /// Copies the last error; returns its length.
    pub(crate) fn last_error(&self, to: &mut [u8]) -> usize {
        self.last_error.read(to)
    }

    /// A line for each session, from an offset on; see [`Bookmark::read`].
    pub(crate) fn sessions(&self, offset: u64, to: &mut [u8]) -> usize {
        self.bookmark
            .read(&self.arrived, &self.outgoing, offset, to)
    }
}
