// SPDX-License-Identifier: GPL-2.0

//! The texts of LUO's records.

use super::format::NAME;
pub(crate) use crate::sys::text::{escape, Compatible, Text};

/// A session's name.
pub(crate) type Name = Text<NAME>;
