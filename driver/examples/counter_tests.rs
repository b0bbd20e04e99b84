// SPDX-License-Identifier: GPL-2.0

//! The example handler, called as LUO calls it: there and back, given up, not rebooted, and with
//! handles that mean nothing. Further handlers for what the example does not need.

use super::*;

#[kunit_tests(liveupdate_counter)]
mod tests {
    use super::*;
    use kernel::{
        liveupdate::{
            testing::{
                self,
                Arrived,
                Kept, //
            },
            HandlerSlot,
            Retrieval, //
        },
        page::PAGE_SIZE,
        sync::atomic::{
            Atomic,
            Relaxed, //
        }, //
    };

    fn counter_at(next: u64) -> Result<ARef<File>> {
        COUNTERS.create(Counter::new(next, None))
    }

    /// The next number, whether the counter is preserved, and whether frozen.
    fn state(file: &File) -> Option<(u64, bool, bool)> {
        let state = COUNTERS.of(file)?.state.lock();
        Some((state.next, state.preserved, state.frozen))
    }

    #[test]
    fn dropping_the_live_state_is_the_undo() -> Result {
        let file = counter_at(7)?;
        let kept = Kept::preserve(&HANDLER, file.clone())?;
        assert_eq!(state(&file), Some((7, true, false)));
        drop(kept);
        assert_eq!(state(&file), Some((7, false, false)));
        // And again.
        drop(Kept::preserve(&HANDLER, file.clone())?);
        assert_eq!(state(&file), Some((7, false, false)));
        Ok(())
    }

    #[test]
    fn after_a_reboot_that_fails_the_file_is_still_preserved() -> Result {
        let file = counter_at(7)?;
        let mut kept = Kept::preserve(&HANDLER, file.clone())?;
        kept.freeze()?;
        assert_eq!(state(&file), Some((7, true, true)));
        kept.unfreeze();
        assert_eq!(state(&file), Some((7, true, false)));
        drop(kept);
        assert_eq!(state(&file), Some((7, false, false)));
        Ok(())
    }

    #[test]
    fn a_counter_goes_on_in_the_new_kernel() -> Result {
        let file = counter_at(7)?;
        let mut kept = Kept::preserve(&HANDLER, file.clone())?;
        COUNTERS.of(&file).ok_or(EINVAL)?.state.lock().next = 8;
        kept.freeze()?;
        let mut arrived = kept.kexec();
        let new = arrived.retrieve()?;
        assert_eq!(state(&new), Some((8, false, false)));
        // Asked again, it is the same file.
        assert_eq!(arrived.retrieve()?.as_ptr(), new.as_ptr());
        // What was handed over can be taken once.
        let mut double = Arrived::with(&HANDLER, arrived.raw_handle());
        assert_eq!(double.retrieve().err(), Some(ENOENT));
        Ok(())
    }

    #[test]
    fn handles_that_mean_nothing_are_refused() -> Result {
        // Preserved, but by this kernel: not its to take.
        let page = Preserved::new(CounterRecord::new(1))?;
        let kept = Kept::preserve(&HANDLER, counter_at(7)?)?;
        let outgoing = kept.raw_handle();
        for (handle, error) in [
            (0, EINVAL),
            (1, EINVAL),
            (outgoing + 8, EINVAL),
            (outgoing, ENOENT),
            (u64::MAX, EINVAL),
            (u64::MAX - 0xfff, ENOENT),
            (1 << 46, ENOENT),
        ] {
            let mut arrived = Arrived::with(&HANDLER, handle);
            assert_eq!(arrived.retrieve().err(), Some(error));
            assert_eq!(arrived.retrieve().err(), Some(error));
        }
        // Nor is it taken by finishing what was never asked for.
        drop(Arrived::with(&HANDLER, outgoing));
        drop(Arrived::with(&HANDLER, 0x1234));
        assert_eq!(page.next, 1);
        drop(kept);
        Ok(())
    }

    #[test]
    fn another_version_is_written_when_the_next_kernel_is_known() -> Result {
        let file = counter_at(7)?;
        let kept = Kept::preserve(&HANDLER, file.clone())?;
        let new = kept.raw_handle();
        let mut kept = kept.rewrite(&OLD_HANDLER).map_err(|(_, err)| err)?;
        // What version 2 wrote was given back, and is not to be had.
        assert_eq!(Arrived::with(&HANDLER, new).retrieve().err(), Some(ENOENT));
        assert_eq!(state(&file), Some((7, true, false)));
        COUNTERS.of(&file).ok_or(EINVAL)?.state.lock().next = 9;
        kept.freeze()?;
        let arrived = kept.kexec().retrieve()?;
        assert_eq!(state(&arrived), Some((9, false, false)));
        // There and back, and given up.
        let kept = Kept::preserve(&OLD_HANDLER, arrived.clone())?;
        let kept = kept.rewrite(&HANDLER).map_err(|(_, err)| err)?;
        let kept = kept.rewrite(&OLD_HANDLER).map_err(|(_, err)| err)?;
        drop(kept);
        assert_eq!(state(&arrived), Some((9, false, false)));
        Ok(())
    }

    #[test]
    fn a_record_that_was_damaged_is_no_counter() -> Result {
        let record = Preserved::new(CounterRecord { next: 5, check: 5 })?;
        assert_eq!(record.read().err(), Some(EBADMSG));
        assert_eq!(CounterRecord::new(5).read()?, 5);
        Ok(())
    }

    #[test]
    fn other_files_are_not_wanted() -> Result {
        struct Other;

        #[vtable]
        impl AnonFile for Other {
            const NAME: &'static CStr = c"[other]";
        }

        static OTHERS: AnonType<Other> = AnonType::new();
        let file = OTHERS.create(Other)?;
        assert!(COUNTERS.of(&file).is_none());
        assert_eq!(Kept::preserve(&HANDLER, file).err(), Some(ENOENT));
        Ok(())
    }

    /// Counters again, with every optional function.
    struct Fussy;

    static FUSSY: HandlerSlot<Fussy> = testing::slot();

    /// What [`Fussy::finish`] was told: 1 retrieved, 2 failed, 3 never asked for.
    static FINISHED: Atomic<i32> = Atomic::new(0);

    #[vtable]
    impl FileHandler for Fussy {
        const COMPATIBLE: &'static CStr = c"liveupdate-counter-tests-v1";

        /// Two pages.
        type Handle = Handle<[u64; 2 * PAGE_SIZE / 8]>;
        type Live = Preserved<[u64; 2 * PAGE_SIZE / 8]>;

        fn can_preserve(file: &File) -> bool {
            CounterHandler::can_preserve(file)
        }

        fn id(_file: &File) -> usize {
            42
        }

        /// A counter that comes to 13 needs another file, which is preserved nowhere: itself.
        fn needs(file: &File, needs: &mut Needs<'_>) -> Result {
            if state(file).is_some_and(|(next, _, _)| next == 13) {
                needs.file(file);
            }
            Ok(())
        }

        fn preserve(file: &File) -> Result<(Self::Handle, Self::Live)> {
            let mut live = Self::Live::zeroed()?;
            let (next, _, _) = state(file).ok_or(EINVAL)?;
            *live.last_mut().ok_or(EINVAL)? = next;
            Ok((live.handle(), live))
        }

        fn retrieve(handle: Self::Handle) -> Result<ARef<File>> {
            let page = handle.take()?;
            match page.last() {
                Some(&next) if next != 99 => counter_at(next),
                _ => Err(EBADMSG),
            }
        }

        fn can_finish(retrieval: &Retrieval<'_, Self::Handle>) -> bool {
            !matches!(retrieval, Retrieval::NeverAsked(_))
        }

        fn finish(retrieval: Retrieval<'_, Self::Handle>) {
            let told = match &retrieval {
                Retrieval::Done(file) if state(file).is_some() => 1,
                Retrieval::Failed(err) if *err == EBADMSG => 2,
                Retrieval::NeverAsked(_) => 3,
                _ => -1,
            };
            FINISHED.store(told, Relaxed);
            retrieval.discard();
        }
    }

    #[test]
    fn what_a_file_needs_must_be_preserved_first() -> Result {
        let file = counter_at(13)?;
        assert_eq!(Kept::preserve(&FUSSY, file.clone()).err(), Some(EINVAL));
        COUNTERS.of(&file).ok_or(EINVAL)?.state.lock().next = 12;
        let mut kept = Kept::preserve(&FUSSY, file.clone())?;
        kept.freeze()?;
        // It is asked again at the freeze.
        COUNTERS.of(&file).ok_or(EINVAL)?.state.lock().next = 13;
        assert_eq!(kept.freeze().err(), Some(EINVAL));
        Ok(())
    }

    #[test]
    fn finish_is_told_what_became_of_the_file() -> Result {
        for (next, told) in [(5, 1), (99, 2)] {
            let mut arrived = Kept::preserve(&FUSSY, counter_at(next)?)?.kexec();
            assert!(!arrived.can_finish());
            assert_eq!(arrived.retrieve().is_ok(), told == 1);
            assert!(arrived.can_finish());
            drop(arrived);
            assert_eq!(FINISHED.load(Relaxed), told);
        }
        let arrived = Kept::preserve(&FUSSY, counter_at(5)?)?.kexec();
        let handle = arrived.raw_handle();
        drop(arrived);
        assert_eq!(FINISHED.load(Relaxed), 3);
        // Its memory was given back by that.
        let again = Arrived::with(&FUSSY, handle).retrieve();
        assert_eq!(again.err(), Some(ENOENT));
        Ok(())
    }

    #[test]
    fn less_than_the_record_is_refused() -> Result {
        let small = Kept::preserve(&HANDLER, counter_at(7)?)?.kexec();
        let mut arrived = Arrived::with(&FUSSY, small.raw_handle());
        assert_eq!(arrived.retrieve().err(), Some(EINVAL));
        Ok(())
    }

    #[test]
    fn the_identity_is_the_file_unless_said_otherwise() -> Result {
        let (one, two) = (counter_at(1)?, counter_at(2)?);
        let kept = Kept::preserve(&HANDLER, one.clone())?;
        assert_eq!(kept.id(), one.as_ptr().addr());
        assert_eq!(Kept::preserve(&FUSSY, two)?.id(), 42);
        Ok(())
    }
}
