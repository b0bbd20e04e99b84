// SPDX-License-Identifier: GPL-2.0

//! Slab caches and arrays for drivers: who owns what, a pretended kexec, and handles that mean
//! nothing.

use super::{
    array::Array,
    record::{
        Cache,
        Item,
        Ref,
        Slot,
        Values,
        Wire, //
    },
    slab::Slab,
    testing, //
};
use crate::prelude::*;
use core::ops::RangeInclusive;

/// Twice as large as it is aligned.
type Pair = [u64; 2];

#[derive(Debug, FromBytes, IntoBytes, zerocopy_derive::Immutable)]
#[repr(C)]
struct Other(Pair);

impl Item for Other {
    const NAME: &'static str = "tests-other-v1";
}

/// The same handle once more, as a forger has it.
fn again<T: Wire>(handle: &T) -> Result<T> {
    let mut bytes = [0; 24];
    handle.put(&mut bytes).ok_or(EINVAL)?;
    T::get(&bytes).ok_or(EINVAL)
}

#[kunit_tests(liveupdate_slab)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_owned() -> Result {
        let slab = Slab::<Pair>::create(c"kunit-rust")?;
        let mut objects = KVec::new();
        for number in 0..600 {
            objects.push(slab.alloc([number, !number])?, GFP_KERNEL)?;
        }
        assert_eq!(slab.count(), 600);
        for object in &mut objects {
            object.in_order(|pair| pair[1] = pair[0] + 1, |pair| pair[0] = 7);
        }
        for (object, number) in objects.iter().zip(1..) {
            assert_eq!(**object, [7, number]);
        }
        objects.truncate(200);
        assert_eq!(slab.count(), 200);
        // The objects keep the cache, and its name.
        drop(slab);
        assert_eq!(Slab::<Pair>::create(c"kunit-rust").err(), Some(EEXIST));
        drop(objects);
        Slab::<Pair>::create(c"kunit-rust").map(drop)
    }

    #[test]
    fn each_that_was_kept_is_given_out_once() -> Result {
        let slab = Slab::<Pair>::unnamed()?;
        let other = Slab::<Pair>::unnamed()?;
        let mut kept = KVec::new();
        for number in 0..600 {
            kept.push(slab.alloc([number, 0])?.keep(), GFP_KERNEL)?;
        }
        // Not in the kernel that kept it.
        assert_eq!(slab.take(kept[0]).err(), Some(ENOENT));
        assert!(slab.left()?.next().is_none());

        let slab = testing::cross(slab)?;
        // The first of this kernel's own, before anybody has looked what was left.
        let own = slab.alloc([1000, 0])?;
        assert_eq!(slab.take(own.handle()).err(), Some(ENOENT));
        for (&handle, number) in kept.iter().zip(0..100) {
            let mut object = slab.take(handle)?;
            assert_eq!(*object, [number, 0]);
            assert_eq!(slab.take(handle).err(), Some(ENOENT));
            object[1] = 1;
            match number % 2 {
                0 => drop(object),
                _ => assert_eq!(object.keep(), handle),
            }
            assert_eq!(slab.take(handle).err(), Some(ENOENT));
        }
        let stranger = other.alloc([0, 0])?;
        for forged in [0, 1, 8, stranger.handle(), slab.handle(), kept[200] + 8] {
            assert_eq!(slab.take(forged).err(), Some(ENOENT));
        }
        for forged in [1 << 63 | kept[200], 1 << 63, u64::MAX, !0xfff, 1 << 51] {
            assert_eq!(slab.take(forged).err(), Some(ENOENT));
        }
        // A few are taken by a walk that is not finished, then one by its handle.
        let mut sum: u64 = slab.left()?.take(100).map(|object| object[0]).sum();
        if let Ok(object) = slab.take(kept[599]) {
            sum += object[0];
        }
        sum += slab.left()?.map(|object| object[0]).sum::<u64>();
        assert_eq!(sum, (100..600).sum());
        assert!(slab.left()?.next().is_none());
        // What was kept a second time, and this kernel's.
        assert_eq!(slab.count(), 50 + 1);

        // And once more.
        assert_eq!(testing::cross(slab.clone()).err(), Some(EBUSY));
        assert_eq!(*own, [1000, 0]);
        own.keep();
        let slab = testing::cross(slab)?;
        assert_eq!(slab.left()?.filter(|object| object[1] == 1).count(), 50);
        assert_eq!(slab.count(), 0);
        Ok(())
    }

    #[test]
    fn what_is_not_taken_goes_when_the_cache_is_destroyed() -> Result {
        let slab = Slab::<[u8; 5]>::create(c"kunit-rust-destroyed")?;
        for _ in 0..100 {
            slab.alloc([1; 5])?.keep();
        }
        let object = slab.alloc([2; 5])?;
        let clone = slab.clone();
        slab.destroy();
        assert_eq!(clone.count(), 101);
        drop(clone);
        assert_eq!(*object, [2; 5]);
        drop(object);
        Slab::<[u8; 5]>::create(c"kunit-rust-destroyed").map(drop)
    }

    #[test]
    fn what_is_not_there_is_not_attached() -> Result {
        assert_eq!(Slab::<Pair>::attach(c"kunit-none").err(), Some(ENOENT));
        assert_eq!(Slab::<Pair>::attach(c"").err(), Some(EINVAL));
        assert_eq!(Slab::<Pair>::create(c"").err(), Some(EINVAL));
        assert_eq!(Slab::<Pair>::create(c"a/b").err(), Some(EINVAL));
        let own = Slab::<Pair>::unnamed()?;
        for handle in [0, 1, 4096, own.handle(), 1 << 51, u64::MAX] {
            assert_eq!(Slab::<Pair>::attach_at(handle).err(), Some(EINVAL));
        }
        assert_eq!(Array::attach(c"kunit-none").err(), Some(ENOENT));
        assert_eq!(Array::create(c"").err(), Some(EINVAL));
        let own = Array::unnamed()?;
        for handle in [0, 1, 4096, own.handle(), 1 << 51, u64::MAX] {
            assert_eq!(Array::attach_at(handle).err(), Some(EINVAL));
        }
        Ok(())
    }

    #[test]
    fn handles_in_records_are_redeemed_once() -> Result {
        let slab = Slab::<Other>::unnamed()?;
        let object = slab.alloc(Other([3, 4]))?;
        let handle = object.reference();
        // This kernel's.
        assert_eq!(again(&handle)?.redeem(&slab).err(), Some(ENOENT));
        object.keep();
        let slab = testing::cross(slab)?;
        let forged: Ref<Slot<Other>> = Ref::__new(again(&handle)?.__into_parts().0, 1);
        assert_eq!(forged.redeem(&slab).err(), Some(EINVAL));
        let copy = again(&handle)?;
        let object = handle.redeem(&slab)?;
        assert_eq!(object.0, [3, 4]);
        assert_eq!(copy.redeem(&slab).err(), Some(ENOENT));
        // One to the cache is none to an object, and one to an array neither.
        let array = Array::unnamed()?;
        let mut bytes = [0; 24];
        slab.reference().put(&mut bytes).ok_or(EINVAL)?;
        assert!(Ref::<Slot<Other>>::get(&bytes).is_none());
        assert!(Ref::<Values>::get(&bytes).is_none());
        array.reference().put(&mut bytes).ok_or(EINVAL)?;
        assert!(Ref::<Cache<Other>>::get(&bytes).is_none());
        // None of this kernel's can be taken over, and none that was made up.
        assert_eq!(slab.reference().redeem().err(), Some(EINVAL));
        assert_eq!(array.reference().redeem().err(), Some(EINVAL));
        for (address, detail) in [(0, 0), (4096, 0), (u64::MAX, 0), (4096, 1)] {
            let slab = Ref::<Cache<Other>>::__new(address, detail);
            assert_eq!(slab.redeem().err(), Some(EINVAL));
            let array = Ref::<Values>::__new(address, detail);
            assert_eq!(array.redeem().err(), Some(EINVAL));
        }
        Ok(())
    }

    #[test]
    fn an_array_is_walked_in_order() -> Result {
        let array = Array::create(c"kunit-rust")?;
        assert_eq!(Array::create(c"kunit-rust").err(), Some(EEXIST));
        for number in (0..50).rev() {
            assert!(!array.set(number << 20, number)?);
        }
        assert!(!array.set(u64::MAX, 50)?);
        assert!(array.set(0, 9)?);
        assert_eq!((array.get(0), array.get(1)), (Some(9), None));
        assert_eq!(array.count(), 51);
        let from = |range| array.range(range).map(|(_, value)| value);
        assert!(from(1..=u64::MAX).eq(1..=50));
        assert!(from(1 << 20..=3 << 20).eq(1..=3));
        assert!(from(u64::MAX..=u64::MAX).eq(50..=50));
        let nothing = RangeInclusive::new(3, 2);
        assert_eq!(from(nothing.clone()).count(), 0);
        array.clear_range(nothing);
        array.clear_range(10 << 20..=20 << 20);
        assert!(array.clear(u64::MAX) && !array.clear(u64::MAX));
        assert_eq!(array.count(), 39);
        array.destroy();
        Array::create(c"kunit-rust").map(drop)
    }
}
