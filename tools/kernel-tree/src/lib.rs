// SPDX-License-Identifier: GPL-2.0
//! The kernel we build on: its tools, its source, our tree inside it, and kernels built from it.

pub mod apt;
pub mod block;
pub mod cache;
pub mod check;
pub mod clean;
pub mod docs;
pub mod fragment;
pub mod integrate;
pub mod kernel;
mod later;
pub mod make;
pub mod packages;
pub mod source;
pub mod steps;
pub mod version;

pub use cache::{cache_dir, project_root};
pub use kernel::{ensure_kernel, Kernel};
pub use packages::ensure_packages;
pub use source::{ensure_source, Tree};
pub use steps::Steps;
