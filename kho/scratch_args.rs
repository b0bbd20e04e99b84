// SPDX-License-Identifier: GPL-2.0

//! The `kho_scratch=` argument: a percentage or three sizes.

use crate::sys::error::{Result, EINVAL};

/// How large scratch areas are to be, in bytes before rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sizing {
    /// So many percent of what the kernel itself reserved in early boot.
    Percent(u32),
    /// These sizes: below the low-memory limit, anywhere, and on each node.
    Bytes {
        low: u64,
        global: u64,
        per_node: u64,
    },
}

impl Sizing {
    /// Without an argument: twice what this kernel needed.
    pub(crate) const DEFAULT: Self = Self::Percent(200);

    /// Reads `N%` or `LOW,GLOBAL,PERNODE`, each a number with an optional K, M, G, T, P or E.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for anything else, for three zeros, and for numbers that do not fit.
    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        if let [digits @ .., b'%'] = text {
            let (percent, rest) = number(digits, 10)?;
            let percent = u32::try_from(percent).map_err(|_| EINVAL)?;
            return if rest.is_empty() && percent > 0 {
                Ok(Self::Percent(percent))
            } else {
                Err(EINVAL)
            };
        }
        let (low, rest) = size(text)?;
        let (global, rest) = size(comma(rest)?)?;
        let (per_node, rest) = size(comma(rest)?)?;
        let all_zero = low == 0 && global == 0 && per_node == 0;
        if all_zero || !rest.is_empty() {
            return Err(EINVAL);
        }
        Ok(Self::Bytes {
            low,
            global,
            per_node,
        })
    }
}

fn comma(text: &[u8]) -> Result<&[u8]> {
    text.strip_prefix(b",").ok_or(EINVAL)
}

/// A number in the bases memparse() knows, and its suffix.
fn size(text: &[u8]) -> Result<(u64, &[u8])> {
    let (value, rest) = match text {
        [b'0', b'x' | b'X', hex @ ..] => number(hex, 16)?,
        [b'0', octal @ ..] if octal.first().is_some_and(u8::is_ascii_digit) => number(octal, 8)?,
        _ => number(text, 10)?,
    };
    let (unit, rest) = match rest {
        [b'K' | b'k', rest @ ..] => (10, rest),
        [b'M' | b'm', rest @ ..] => (20, rest),
        [b'G' | b'g', rest @ ..] => (30, rest),
        [b'T' | b't', rest @ ..] => (40, rest),
        [b'P' | b'p', rest @ ..] => (50, rest),
        [b'E' | b'e', rest @ ..] => (60, rest),
        _ => (0, rest),
    };
    Ok((value.checked_mul(1 << unit).ok_or(EINVAL)?, rest))
}

fn number(text: &[u8], base: u32) -> Result<(u64, &[u8])> {
    let mut value: u64 = 0;
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let Some(digit) = char::from(*first).to_digit(base) else {
            break;
        };
        value = value
            .checked_mul(base.into())
            .and_then(|v| v.checked_add(digit.into()))
            .ok_or(EINVAL)?;
        rest = after;
    }
    if rest.len() == text.len() {
        return Err(EINVAL);
    }
    Ok((value, rest))
}

#[cfg_attr(kernel, kernel::prelude::kunit_tests(kho_scratch_args))]
#[cfg_attr(not(kernel), cfg(test))]
mod tests {
    use super::*;

    #[test]
    fn percentages() {
        assert!(Sizing::parse(b"150%") == Ok(Sizing::Percent(150)));
        assert!(Sizing::parse(b"%").is_err());
        assert!(Sizing::parse(b"0%").is_err());
        assert!(Sizing::parse(b"-1%").is_err());
        assert!(Sizing::parse(b"99999999999%").is_err());
    }

    #[test]
    fn sizes() {
        let parsed = Sizing::parse(b"16M,512m,0");
        let expected = Sizing::Bytes {
            low: 16 << 20,
            global: 512 << 20,
            per_node: 0,
        };
        assert!(parsed == Ok(expected));
        assert!(Sizing::parse(b"0x10K,010,1").is_ok());
        for bad in [
            &b""[..],
            b"0,0,0",
            b"1M",
            b"1M,2M",
            b"1M,2M,",
            b"1M,2M,3M,",
            b"M,1,1",
            b"1M 2M 3M",
            b"99999999999999999999,1,1",
            b"17179869184G,1,1",
        ] {
            assert!(Sizing::parse(bad).is_err());
        }
    }
}
