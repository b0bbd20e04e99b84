// SPDX-License-Identifier: GPL-2.0

//! /dev/liveupdate: one opener at a time, who makes sessions and retrieves them.

use core::sync::atomic::{AtomicBool, Ordering};

use kernel::fs::File;
use kernel::miscdevice::{MiscDevice, MiscDeviceOptions, MiscDeviceRegistration};
use kernel::prelude::*;
use kernel::sync::SetOnce;

use super::argument::parse;
use super::orchestrator::luo;
use super::session::{reserve_fd, Session};
use crate::luo::ioctl::{DeviceCommand, NameArgument};
use crate::luo::Luo;
use crate::sys::error::Result;

static OPEN: AtomicBool = AtomicBool::new(false);

/// The one who has the device open.
struct Opener(());

impl Drop for Opener {
    fn drop(&mut self) {
        OPEN.store(false, Ordering::Release);
    }
}

#[vtable]
impl MiscDevice for Opener {
    type Ptr = KBox<Self>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<KBox<Self>> {
        if OPEN.swap(true, Ordering::Acquire) {
            return Err(EBUSY);
        }
        // If the allocation fails, the drop of `Self` clears `OPEN`.
        Ok(KBox::new(Self(()), GFP_KERNEL)?)
    }

    fn ioctl(_: &Self, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        let (command, argument) = parse(cmd, arg, None)?;
        let asked: NameArgument = argument.read()?;
        let (reserved, fd) = reserve_fd()?;
        let luo = luo()?;
        let file = argument.answer(&asked, &NameArgument { fd, ..asked }, || match command {
            DeviceCommand::Create => create(luo, &asked),
            DeviceCommand::Retrieve => retrieve(luo, &asked),
        })?;
        reserved.fd_install(file);
        Ok(0)
    }
}

fn create(luo: &Luo, asked: &NameArgument) -> Result<crate::sys::driver::File> {
    let operating = luo.operate()?;
    let session = luo.create(&operating, &asked.name)?;
    Session::Outgoing(session.clone())
        .into_file()
        .inspect_err(|_| luo.close_outgoing(&operating, &session))
}

fn retrieve(luo: &Luo, asked: &NameArgument) -> Result<crate::sys::driver::File> {
    let operating = luo.operate()?;
    let session = luo.retrieve_session(&operating, &asked.name)?;
    Session::Incoming(session.clone())
        .into_file()
        .inspect_err(|_| session.unopen())
}

static DEVICE: SetOnce<Pin<KBox<MiscDeviceRegistration<Opener>>>> = SetOnce::new();

/// Makes the device.
///
/// # Errors
///
/// [`ENOMEM`], and what the registry of devices says.
pub(super) fn register() -> Result {
    let options = MiscDeviceOptions {
        name: c"liveupdate",
    };
    let device = KBox::pin_init(MiscDeviceRegistration::register(options), GFP_KERNEL)?;
    DEVICE.populate(device);
    Ok(())
}
