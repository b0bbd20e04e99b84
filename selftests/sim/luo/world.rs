// SPDX-License-Identifier: GPL-2.0

//! A simulated kernel with an orchestrator and the [`super::lab`]'s drivers, from boot to kexec.

use super::lab::lab;
use crate::kho::addr::PhysAddr;
use crate::kho::state as handover;
use crate::luo::format::{NAME, SUBTREE};
use crate::luo::formats::written;
use crate::luo::{incoming, outgoing, Left, Luo};
use crate::sim::kernel::{self, small_machine, Handed, Kernel};
use crate::sys::alloc::Arc;
use crate::sys::driver::File;
use crate::sys::early::Mapped;
use crate::sys::error::{Result, ENOENT};
use crate::sys::fdt::Blob;
use crate::sys::machine::{with, Config, Owner};

pub(crate) type Outgoing = Arc<outgoing::Session>;
pub(crate) type Incoming = Arc<incoming::Session>;

/// A running kernel.
pub(crate) struct World {
    kernel: Kernel,
    pub(crate) luo: Luo,
}

/// A session's name.
pub(crate) fn name(text: &str) -> [u8; NAME] {
    let mut bytes = [0; NAME];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    bytes
}

/// Where the orchestrator's root is handed over, as the FDT has it, and of what size.
pub(crate) fn root_at(handed: Handed) -> (PhysAddr, u64) {
    let mapped = Mapped::new(handed.fdt, 4096).expect("there is an FDT");
    let found = crate::kho::fdt::subtree(&Blob::new(mapped.bytes()), SUBTREE);
    let found = found.expect("it is named there");
    (found.data, found.size)
}

/// Where the orchestrator's root was left, and of what size, for a kernel to start from.
pub(crate) fn root_of(kernel: &Kernel, handed: Handed) -> Left {
    let mapped = Mapped::new(handed.fdt, 4096).expect("it was judged");
    match kernel.subtree(&Blob::new(mapped.bytes()), SUBTREE) {
        Ok(found) => Left::Root(found.data, found.size as usize),
        Err(ENOENT) => Left::Nothing,
        Err(_) => Left::Lost,
    }
}

impl World {
    /// Boots a new machine.
    pub(crate) fn cold() -> Self {
        Self::cold_with(small_machine())
    }

    pub(crate) fn cold_with(config: Config) -> Self {
        Self::boot(Kernel::cold(config), Left::Nothing).expect("memory")
    }

    /// Boots from a handover in which KHO's part is good.
    pub(crate) fn warm(handed: Handed) -> Self {
        let (kernel, refused) = Kernel::warm(handed);
        assert!(refused.is_none(), "{refused:?}");
        let left = root_of(&kernel, handed);
        let mapped = Mapped::new(handed.fdt, 4096).expect("it was judged");
        let formats = kernel.subtree(&Blob::new(mapped.bytes()), written::SUBTREE);
        let formats = formats.ok().map(|found| (found.data, found.size as usize));
        Self::start(kernel, left, formats).expect("memory")
    }

    pub(crate) fn boot(kernel: Kernel, left: Left) -> Result<Self> {
        Self::start(kernel, left, None)
    }

    /// What the initcalls do.
    fn start(mut kernel: Kernel, left: Left, formats: Option<(PhysAddr, usize)>) -> Result<Self> {
        lab().forget();
        kernel.lend();
        let mut luo = Luo::start(left)?;
        if let Some((at, size)) = formats {
            luo.judge(at, size)?;
        }
        luo.publish()?;
        lab().register(&luo)?;
        Ok(Self { kernel, luo })
    }

    pub(crate) fn create(&self, text: &str) -> Result<Outgoing> {
        self.luo.create(&self.luo.operate()?, &name(text))
    }

    pub(crate) fn preserve(&self, session: &Outgoing, token: u64, file: &File) -> Result {
        let file = || Ok(file.clone());
        self.luo
            .preserve(&self.luo.operate()?, session, token, file)
    }

    pub(crate) fn close(&self, session: Outgoing) {
        self.luo
            .close_outgoing(&self.luo.operate_always(), &session);
    }

    pub(crate) fn open(&self, text: &str) -> Result<Incoming> {
        self.luo.retrieve_session(&self.luo.operate()?, &name(text))
    }

    pub(crate) fn retrieve(&self, session: &Incoming, token: u64) -> Result<File> {
        self.luo.retrieve(&self.luo.operate()?, session, token)
    }

    pub(crate) fn finish(&self, session: &Incoming) -> Result {
        self.luo.finish(&self.luo.operate()?, session)
    }

    pub(crate) fn close_incoming(&self, session: Incoming) {
        self.luo
            .close_incoming(&self.luo.operate_always(), &session);
    }

    /// The text of all sessions, read so many bytes at a time.
    pub(crate) fn sessions(&self, step: usize) -> String {
        let mut text = Vec::new();
        let mut part = vec![0; step];
        loop {
            let read = self.luo.sessions(text.len() as u64, &mut part);
            if read == 0 {
                return String::from_utf8(text).expect("names are escaped");
            }
            text.extend(&part[..read]);
        }
    }

    pub(crate) fn last_error(&self) -> String {
        let mut text = [0; 512];
        let len = self.luo.last_error(&mut text);
        String::from_utf8_lossy(&text[..len]).into_owned()
    }

    /// Frames in use, but for the nodes of the outgoing tree, of which there are more or fewer by
    /// where things are.
    pub(crate) fn owned(&self) -> u64 {
        let nodes = handover::outgoing(|out| Ok(kernel::nodes(out))).expect("lent");
        kernel::owned() - nodes.len() as u64
    }

    /// Frames that wait for whoever asks for them.
    pub(crate) fn waiting(&self) -> u64 {
        with(|m| m.count(Owner::Waiting))
    }

    /// Replaces the kernel, after a reboot that succeeded. What the caller has of it must be
    /// forgotten, not dropped.
    pub(crate) fn kexec(self) -> Handed {
        let Self { mut kernel, luo } = self;
        assert_eq!(luo.state(), "frozen");
        kernel.take_back();
        std::mem::forget(luo);
        lab().forget();
        let left = kernel::preserved(&kernel.out);
        kernel.kexec(&left)
    }
}
