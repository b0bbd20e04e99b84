// SPDX-License-Identifier: GPL-2.0

//! Records in the kernel's own memory: preserved, given up, and handles that mean nothing.

use super::history::*;
use kernel::prelude::*;

#[kunit_tests(liveupdate_history)]
mod tests {
    use super::*;
    use kernel::liveupdate::record::{
        Area,
        Fault,
        Handover,
        Page,
        Ref, //
    };

    #[test]
    fn bytes_that_nobody_wrote_are_no_record() -> Result {
        let setting = Setting { to: 7 };
        let mut bytes = setting.encode(1)?;
        assert_eq!(Setting::decode(&bytes), Ok(setting));
        assert!(matches!(History::decode(&bytes), Err(Fault::Layout)));
        bytes[4] = 2;
        assert_eq!(Setting::decode(&bytes), Err(Fault::Version));
        assert_eq!(Setting::decode(&bytes[..20]), Err(Fault::Version));
        assert_eq!(Setting::decode(&[]), Err(Fault::Length));
        Ok(())
    }

    #[test]
    fn a_history_can_be_kept_and_given_up_again_and_again() -> Result {
        let mut settings = KVec::new();
        for to in 0..1000 {
            settings.push(Setting { to }, GFP_KERNEL)?;
        }
        for many in [0, 1, 200, 1000] {
            for _ in 0..3 {
                let some = settings.get(..many).ok_or(EINVAL)?;
                drop(keep(some)?);
            }
        }
        Ok(())
    }

    #[test]
    fn what_this_kernel_preserves_is_not_its_to_take() -> Result {
        let settings = [Setting { to: 1 }];
        let (handle, kept) = keep(&settings)?;
        assert_eq!(take(handle).err(), Some(ENOENT));
        drop(kept);
        Ok(())
    }

    #[test]
    fn forged_handles_get_nothing() {
        for address in [0, 1, 8, 4096, 1 << 46, u64::MAX, u64::MAX - 0xfff] {
            assert!(Ref::<Page<Setting>>::__new(address, 0).redeem().is_err());
            for detail in [0, 1, 1 << 48 | 1, u64::MAX] {
                let forged = Ref::<Area<Setting>>::__new(address, detail);
                assert_eq!(forged.redeem().err(), Some(EINVAL));
            }
        }
    }
}
