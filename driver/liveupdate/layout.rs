// SPDX-License-Identifier: GPL-2.0

//! Fingerprints of layouts: a number that changes when a field moves, grows, or has another name.
//!
//! It stands in the catalogue with the format's version, so that a layout that changed under the
//! same version is found by comparing two kernels, and by a test before there are two.
//!
//! This file uses nothing but `core`: the crate that has no drivers but formats of its own has it
//! too. The compiler alone calls these functions; `inline` keeps them out of the kernel.
#![allow(unreachable_pub)]

/// A field of what is handed over: its name, and where it stands, in bytes.
#[derive(Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub offset: usize,
    pub size: usize,
}

/// A field, for tables of them.
#[allow(dead_code)]
#[inline]
pub const fn field(name: &'static str, offset: usize, size: usize) -> Field {
    Field { name, offset, size }
}

/// Bytes of the field that a function picks.
#[allow(dead_code)]
#[inline]
pub const fn size_of_field<S, F>(_pick: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

/// The fingerprint of a format that is made of these structs, each a list of fields. Never 0, which
/// stands for an unknown layout.
#[inline]
pub const fn fingerprint(structs: &[&[Field]]) -> u32 {
    let mut sum = 0x811c_9dc5;
    let mut at = 0;
    while at < structs.len() {
        let fields = structs[at];
        let mut index = 0;
        while index < fields.len() {
            let field = &fields[index];
            sum = mix(sum, field.name.as_bytes());
            sum = mix(sum, &[0]);
            sum = mix(sum, &(field.offset as u32).to_le_bytes());
            sum = mix(sum, &(field.size as u32).to_le_bytes());
            index += 1;
        }
        sum = mix(sum, &[1]);
        at += 1;
    }
    if sum == 0 {
        1
    } else {
        sum
    }
}

/// FNV-1a.
#[inline]
pub const fn mix(mut sum: u32, bytes: &[u8]) -> u32 {
    let mut at = 0;
    while at < bytes.len() {
        sum = (sum ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    sum
}

/// The fingerprint of structs whose fields are all named. `[path]` is this module, as it is called
/// where the macro is used; see `layout_of!` and `liveupdate_layout!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __liveupdate_fingerprint {
    ([$($at:tt)*] $($type:ident { $($field:ident),* $(,)? }),+ $(,)?) => {{
        use $($at)* as at;
        at::fingerprint(&[$({
            // A field that is not named does not compile.
            const _: fn(&$type) = |all| {
                let $type { $($field: _),* } = all;
            };
            &[
                $(at::Field {
                    name: stringify!($field),
                    offset: core::mem::offset_of!($type, $field),
                    size: at::size_of_field(|all: &$type| &all.$field),
                },)*
                at::Field { name: "", offset: size_of::<$type>(), size: 0 },
            ]
        }),+])
    }};
}
