// SPDX-License-Identifier: GPL-2.0

//! Whole live updates on the simulated machine, against plain models.
//!
//! [`kernel::Kernel`] is what one kernel does from boot to kexec, with the code under test for its
//! KHO. Good handovers: [`tree`] pits the radix tree against a set; [`update`] runs random
//! operations on a [`world`] over several updates, with allocations failing here and there;
//! [`golden`] and [`formats`] pin bytes; [`slab`] and [`array`] are pitted against maps; [`memfd`]
//! is a handler on top; [`speed`] says how many updates a second that makes. Bad ones: [`boots`]
//! has particular ones, [`audit`] what is found before the jump, [`subtrees`] blobs that are not
//! preserved, [`checksum`] metadata that was overwritten, [`spoilt`] those of LUO's that kernels
//! can be told to make; [`sample`] is one with something of everything, which [`flips`] damages bit
//! by bit and [`targets`] as a fuzzer wants it (`fuzz/`), whose finds [`replay`] repeats;
//! [`survey`] takes what can still be had. [`luo`] is the same for the orchestrator.
//!
//! # A new handler is tested here first
//!
//! A live update takes less than a millisecond here, and nothing is lost by getting it wrong:
//!
//! 1. Split the handler: what it writes down and how that is read again, free of kernel types, and
//!    a thin part that calls the kernel. The former is what is tested.
//! 2. Write down: `let mut kernel = Kernel::cold(small_machine())` has a machine of this thread's
//!    own. Get memory from [`pages::alloc_folio`](crate::sys::pages::alloc_folio), fill it through
//!    [`Frame`](crate::sys::Frame), preserve it through `kernel.out`.
//! 3. Update: `let (mut kernel, refused) = Kernel::warm(kernel.kexec(&left))`, where `left` lists
//!    the frames you believe to be preserved. All others are destroyed: a frame you forgot fails
//!    the test when it is read, one you did not preserve when it is left.
//! 4. Read again, restore through `kernel`, compare, free with `pages::free_folio`. `owned()` is
//!    then what it was before: nothing leaked.
//! 5. Have memory fail: run each operation with `with(|m| m.faults.nth = Some(n))` for every `n`
//!    until it succeeds; after each failure `owned()` must be as before, and a retry must work.
//! 6. Be lied to: put the handler's record into [`sample`] and ask for it in [`survey`]. Every bit
//!    of it is then flipped, and the fuzzers get at it.
//!
//! 7. Be a handler: implement `Handler` ([`driver`](crate::sys::driver)) as `luo/lab.rs` does, and
//!    have `luo/world.rs` carry its files from kernel to kernel.
//!
//! A breach of the machine's rules (memory given to two owners, read without being anybody's,
//! freed twice) panics with what happened before. Random tests print what they ran; a flip or an
//! input that fails is named.

#[cfg(test)]
mod array;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod boots;
#[cfg(test)]
mod carry;
#[cfg(test)]
mod checksum;
#[cfg(test)]
mod eventfd;
#[cfg(test)]
mod flips;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod golden;
mod kernel;
mod luo;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod memfd;
#[cfg(test)]
mod memfd_sparse;
#[cfg(test)]
mod records;
#[cfg(test)]
mod replay;
mod sample;
#[cfg(test)]
mod slab;
mod snapshot;
#[cfg(test)]
mod speed;
#[cfg(test)]
mod spoilt;
#[cfg(test)]
mod subtrees;
mod survey;
pub mod targets;
#[cfg(test)]
mod tree;
#[cfg(test)]
mod update;
#[cfg(test)]
mod world;
