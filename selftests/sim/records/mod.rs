// SPDX-License-Identifier: GPL-2.0

//! Structs that are handed over: their bytes, their versions, and handles in them.

mod handles;
mod in_c;
mod objects;
mod versions;
