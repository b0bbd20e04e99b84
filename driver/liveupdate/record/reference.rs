// SPDX-License-Identifier: GPL-2.0

//! Typed handles in a record: other preserved things, each to be redeemed once.

use core::{
    fmt,
    marker::PhantomData, //
};

use super::super::layout::mix;
use super::{
    Handover,
    TypeName,
    Wire, //
};

/// What a [`Ref`] may stand for.
pub trait Target {
    /// What a handle to it is called.
    const NAME: TypeName;
    /// What a handle to it begins with: different for each kind of thing, and for each struct.
    const TAG: u32;
}

/// A record of `T` in preserved memory of its own.
pub struct Page<T>(PhantomData<fn() -> T>);

/// A preserved vmalloc area, for records of `T` one behind the other.
pub struct Area<T>(PhantomData<fn() -> T>);

impl<T: Handover> Target for Page<T> {
    const NAME: TypeName = TypeName::new("page(").text(T::NAME).text(")");
    const TAG: u32 = tag(b"page", T::NAME);
}

impl<T: Handover> Target for Area<T> {
    const NAME: TypeName = TypeName::new("area(").text(T::NAME).text(")");
    const TAG: u32 = tag(b"area", T::NAME);
}

/// What has a name but no format of its own: plain bytes, in a slab cache or in memory of their
/// own.
///
/// The name ends in a version where the layout may change: another layout is another name.
pub trait Item {
    /// What a handle to it names.
    const NAME: &'static str;
}

/// A `T` in preserved memory of its own.
pub struct Memory<T>(PhantomData<fn() -> T>);

/// A preserved slab cache of `T`.
pub struct Cache<T>(PhantomData<fn() -> T>);

/// An object of a preserved slab cache of `T`.
pub struct Slot<T>(PhantomData<fn() -> T>);

/// A preserved array.
pub struct Values(());

impl<T: Item> Target for Memory<T> {
    const NAME: TypeName = TypeName::new("memory(").text(T::NAME).text(")");
    const TAG: u32 = tag(b"memory", T::NAME);
}

impl<T: Item> Target for Cache<T> {
    const NAME: TypeName = TypeName::new("slab(").text(T::NAME).text(")");
    const TAG: u32 = tag(b"slab", T::NAME);
}

impl<T: Item> Target for Slot<T> {
    const NAME: TypeName = TypeName::new("object(").text(T::NAME).text(")");
    const TAG: u32 = tag(b"object", T::NAME);
}

impl Target for Values {
    const NAME: TypeName = TypeName::new("array");
    const TAG: u32 = tag(b"array", "");
}

/// FNV-1a of the kind and the format's name.
const fn tag(kind: &[u8], name: &str) -> u32 {
    mix(mix(mix(0x811c_9dc5, kind), &[0]), name.as_bytes())
}

/// A handle in a record: `T` says what it stands for.
///
/// There is no copy of it, and redeeming it takes it. One that is decoded from the same bytes again
/// is refused by KHO, which gives each page out once, or by the slab cache, which does so with each
/// object. Its bytes:
///
/// | at | bytes | |
/// |---|---|---|
/// | 0 | 4 | tag: FNV-1a of the kind, a zero byte, and the name of the struct or the [`Item`], if any |
/// | 4 | 4 | zero |
/// | 8 | 8 | address |
/// | 16 | 8 | of an area: pages, flags and order as in `struct kho_vmalloc`; otherwise zero |
///
/// The kinds are `page`, `area`, `memory`, `slab`, `object` and `array`. Bytes with another tag are
/// none of its type. Whether anything is preserved at the address is found out when it is redeemed.
pub struct Ref<T> {
    address: u64,
    detail: u64,
    _target: PhantomData<fn() -> T>,
}

impl<T: Target> Ref<T> {
    /// A handle to what is at `address`. Nobody believes it: it may be forged as well as handed
    /// over.
    #[doc(hidden)]
    pub const fn __new(address: u64, detail: u64) -> Self {
        Self {
            address,
            detail,
            _target: PhantomData,
        }
    }

    /// Its address and detail, for who redeems it.
    #[doc(hidden)]
    pub const fn __into_parts(self) -> (u64, u64) {
        (self.address, self.detail)
    }
}

impl<T: Target> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::NAME.as_str())
    }
}

impl<T> PartialEq for Ref<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.address, self.detail) == (other.address, other.detail)
    }
}

impl<T> Eq for Ref<T> {}

impl<T: Target> Wire for Ref<T> {
    const NAME: TypeName = T::NAME;
    const SIZE: usize = 24;

    fn blank() -> Self {
        Self::__new(0, 0)
    }

    fn put(&self, to: &mut [u8]) -> Option<()> {
        [u64::from(T::TAG), self.address, self.detail].put(to)
    }

    fn get(from: &[u8]) -> Option<Self> {
        let [tag, address, detail] = Wire::get(from)?;
        (tag == u64::from(T::TAG)).then_some(Self::__new(address, detail))
    }
}
