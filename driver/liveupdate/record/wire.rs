// SPDX-License-Identifier: GPL-2.0

//! The types that fields may have, and their bytes.

use core::ops::{
    Deref,
    DerefMut, //
};

use super::{
    layout,
    size,
    Handover,
    Reader,
    TypeName,
    Writer,
    HEADER, //
};

/// A type that a field may have.
///
/// | type | name | bytes |
/// |---|---|---|
/// | `u8` to `u64`, `i8` to `i64` | `u8` ... | little-endian |
/// | `bool` | `bool` | one, 0 or 1 |
/// | `[T; N]` | `T[N]` | one element behind the other |
/// | `Option<T>` | `T?` | one, 0 or 1; then those of `T`, zero if there is none |
/// | [`At<T, V>`](At) | `name@V` | the fields of `T` in version `V`, without a header |
/// | [`Ref<Page<T>>`](super::Ref) | `page(name)` | 24, see there |
/// | [`Ref<Area<T>>`](super::Ref) | `area(name)` | 24, see there |
/// | [`Ref<Memory<T>>`](super::Ref) | `memory(name)` | 24, see there |
/// | [`Ref<Cache<T>>`](super::Ref) | `slab(name)` | 24, see there |
/// | [`Ref<Slot<T>>`](super::Ref) | `object(name)` | 24, see there |
/// | [`Ref<Values>`](super::Ref) | `array` | 24, see there |
pub trait Wire: Sized {
    /// What the type is called.
    const NAME: TypeName;
    /// Its bytes.
    const SIZE: usize;
    /// Fingerprint of what the name does not say, or 0.
    const INNER: u32 = 0;

    /// The value whose bytes are zero, or come nearest to that.
    fn blank() -> Self;

    /// Writes the value to [`Self::SIZE`] bytes. Fails, and may have written some of them, if they
    /// cannot say it.
    fn put(&self, to: &mut [u8]) -> Option<()>;

    /// The value in [`Self::SIZE`] bytes.
    fn get(from: &[u8]) -> Option<Self>;
}

macro_rules! numbers {
    ($($number:ident)+) => {
        $(impl Wire for $number {
            const NAME: TypeName = TypeName::new(stringify!($number));
            const SIZE: usize = size_of::<$number>();

            #[inline]
            fn blank() -> Self {
                0
            }

            #[inline]
            fn put(&self, to: &mut [u8]) -> Option<()> {
                *to.first_chunk_mut()? = self.to_le_bytes();
                Some(())
            }

            #[inline]
            fn get(from: &[u8]) -> Option<Self> {
                from.first_chunk().map(|bytes| Self::from_le_bytes(*bytes))
            }
        })+
    };
}

numbers! { u8 u16 u32 u64 i8 i16 i32 i64 }

impl Wire for bool {
    const NAME: TypeName = TypeName::new("bool");
    const SIZE: usize = 1;

    #[inline]
    fn blank() -> Self {
        false
    }

    #[inline]
    fn put(&self, to: &mut [u8]) -> Option<()> {
        u8::from(*self).put(to)
    }

    #[inline]
    fn get(from: &[u8]) -> Option<Self> {
        match u8::get(from)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl<T: Wire, const N: usize> Wire for [T; N] {
    const NAME: TypeName = T::NAME.text("[").number(N).text("]");
    const SIZE: usize = {
        assert!(N > 0, "an array has elements");
        N * T::SIZE
    };
    const INNER: u32 = T::INNER;

    fn blank() -> Self {
        core::array::from_fn(|_| T::blank())
    }

    fn put(&self, to: &mut [u8]) -> Option<()> {
        let mut places = to.chunks_exact_mut(T::SIZE);
        self.iter()
            .try_for_each(|element| element.put(places.next()?))
    }

    fn get(from: &[u8]) -> Option<Self> {
        let mut whole = true;
        let mut places = from.chunks_exact(T::SIZE);
        let elements = core::array::from_fn(|_| {
            let element = places.next().and_then(T::get);
            whole &= element.is_some();
            element.unwrap_or_else(T::blank)
        });
        whole.then_some(elements)
    }
}

impl<T: Wire> Wire for Option<T> {
    const NAME: TypeName = T::NAME.text("?");
    const SIZE: usize = 1 + T::SIZE;
    const INNER: u32 = T::INNER;

    fn blank() -> Self {
        None
    }

    fn put(&self, to: &mut [u8]) -> Option<()> {
        let (there, value) = to.split_first_mut()?;
        *there = u8::from(self.is_some());
        match self {
            Some(inner) => inner.put(value),
            None => {
                value.fill(0);
                Some(())
            }
        }
    }

    fn get(from: &[u8]) -> Option<Self> {
        match from.split_first()? {
            (0, value) => value.iter().all(|byte| *byte == 0).then_some(None),
            (1, value) => T::get(value).map(Some),
            _ => None,
        }
    }
}

/// A struct in another one, in its version `V`, whatever versions come after it.
///
/// When the inner struct gets a field, a record of the outer one stays what it is. The new version
/// of the inner one goes into a new field, or into a new version of the whole under another name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At<T, const V: u32>(pub T);

impl<T, const V: u32> Deref for At<T, V> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T, const V: u32> DerefMut for At<T, V> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Handover, const V: u32> Wire for At<T, V> {
    const NAME: TypeName = TypeName::new(T::NAME).text("@").number(V as usize);
    const SIZE: usize = {
        assert!(
            V > 0 && V <= T::VERSION,
            "the nested struct has no such version"
        );
        size(T::FIELDS, V) - HEADER
    };
    const INNER: u32 = layout(T::FIELDS, V);

    fn blank() -> Self {
        Self(T::blank())
    }

    fn put(&self, to: &mut [u8]) -> Option<()> {
        self.0.__put(&mut Writer::bare(V, to)).ok()
    }

    fn get(from: &[u8]) -> Option<Self> {
        T::__get(&mut Reader::bare(V, from)).ok().map(Self)
    }
}
