// SPDX-License-Identifier: GPL-2.0
//! What the kernel and its build have too, from the same files: the catalogue's bytes, and the
//! rules.

#[allow(dead_code)]
#[path = "../../../luo/formats/catalogue.rs"]
pub(crate) mod catalogue;
#[allow(dead_code)]
#[path = "../../../luo/formats/choose.rs"]
pub(crate) mod choose;
#[path = "../../../luo/formats/cmdline.rs"]
pub(crate) mod cmdline;
#[allow(dead_code)]
#[path = "../../../luo/formats/build/declarations.rs"]
pub(crate) mod declarations;
#[allow(dead_code)]
#[path = "../../../luo/formats/build/encode.rs"]
pub(crate) mod encode;
#[allow(dead_code)]
#[path = "../../../luo/formats/mainline.rs"]
pub(crate) mod mainline;
#[allow(dead_code)]
#[path = "../../../luo/formats/release.rs"]
pub(crate) mod release;
