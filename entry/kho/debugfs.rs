// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/debug/kho`: what was handed over (`in`) and what will be (`out`).

use kernel::debugfs::{BinaryWriter, Dir, File};
use kernel::fs::file;
use kernel::prelude::*;
use kernel::sync::global_lock;
use kernel::uaccess::UserSliceWriter;

use crate::kho::addr::PhysAddr;
use crate::kho::fdt::names;
use crate::kho::state::{self, Watcher};
use crate::sys::glue;

global_lock! {
    // SAFETY: `init` initialises it, before it is what subtrees are shown by.
    unsafe(uninit) static DEBUGFS: Mutex<Option<Tree>> = None;
}

/// A file that is there as long as this lives.
type Shown<T> = Pin<KBox<File<T>>>;

/// The directory tree. Dropping a part removes it.
struct Tree {
    /// Subtrees that will be handed over, by the address of their blob.
    outgoing: KVec<(PhysAddr, Shown<Blob>)>,
    outgoing_dir: Dir,
    _incoming: KVec<Shown<Blob>>,
    _files: (Shown<RootFdt>, Shown<()>, Shown<()>),
    _dirs: [Dir; 4],
    #[cfg(CONFIG_KEXEC_HANDOVER_DEBUG)]
    _corrupt: Shown<()>,
}

/// Preserved memory shown as it is.
struct Blob {
    at: PhysAddr,
    size: usize,
}

impl BinaryWriter for Blob {
    fn write_to_slice(
        &self,
        writer: &mut UserSliceWriter,
        offset: &mut file::Offset,
    ) -> Result<usize> {
        // SAFETY: A blob's memory stays preserved for as long as it is shown: outgoing ones leave
        // debugfs before they are freed, incoming ones were checked to be RAM. Its owner may write
        // meanwhile; then what is copied to userspace is a mix of old and new bytes.
        let bytes = unsafe {
            let start = glue::lu_phys_to_virt(self.at.raw()).cast::<u8>();
            core::slice::from_raw_parts(start, self.size)
        };
        writer.write_slice_file(bytes, offset)
    }
}

/// The root FDT as it is at the time of reading.
struct RootFdt;

impl BinaryWriter for RootFdt {
    fn write_to_slice(
        &self,
        writer: &mut UserSliceWriter,
        offset: &mut file::Offset,
    ) -> Result<usize> {
        // Copied first: userspace may take its time, and the lock must not wait for it.
        let mut bytes = KVec::new();
        {
            let out = state::OUTGOING.lock();
            let page = out.as_ref().and_then(|out| out.fdt()).ok_or(ENOENT)?.page();
            let len = page.len();
            for i in 0..len.div_ceil(8) {
                bytes.extend_from_slice(&page.frame().word(i).to_ne_bytes(), GFP_KERNEL)?;
            }
            bytes.truncate(len);
        }
        writer.write_slice_file(&bytes, offset)
    }
}

/// Creates all files. A failure is logged and does not turn KHO off.
pub(super) fn init() {
    // SAFETY: The boot comes here once, and nothing else has taken it.
    unsafe { DEBUGFS.init() };
    match build() {
        Ok(tree) => {
            *DEBUGFS.lock() = Some(tree);
            state::watch(&Shows);
        }
        Err(err) => pr_err!("no debugfs files: {err:?}\n"),
    }
}

fn build() -> Result<Tree> {
    let root = Dir::new(c"kho");
    let out = root.subdir(c"out");
    let outgoing_dir = out.subdir(c"sub_fdts");
    let incoming_root = root.subdir(c"in");
    let incoming_dir = incoming_root.subdir(c"sub_fdts");
    let fdt = KBox::pin_init(out.read_binary_file(c"fdt", RootFdt), GFP_KERNEL)?;
    let phys = KBox::pin_init(
        out.read_callback_file(c"scratch_phys", (), &|(), f| {
            state::SCRATCH
                .areas()
                .try_for_each(|area| writeln!(f, "{:#x}", area.start.raw()))
        }),
        GFP_KERNEL,
    )?;
    let len = KBox::pin_init(
        out.read_callback_file(c"scratch_len", (), &|(), f| {
            state::SCRATCH
                .areas()
                .try_for_each(|area| writeln!(f, "{:#x}", area.size))
        }),
        GFP_KERNEL,
    )?;
    #[cfg(CONFIG_KEXEC_HANDOVER_DEBUG)]
    let corrupt = KBox::pin_init(
        out.write_callback_file(c"corrupt", (), &|(), reader| {
            crate::entry::inject::arm(reader)
        }),
        GFP_KERNEL,
    )?;
    let mut incoming = KVec::new();
    if let (Some(fdt), Some(at)) = (state::incoming_fdt(), state::handed_over()) {
        let size = fdt.len();
        incoming.push(
            KBox::pin_init(
                incoming_root.read_binary_file(c"fdt", Blob { at, size }),
                GFP_KERNEL,
            )?,
            GFP_KERNEL,
        )?;
        for name in names(&fdt) {
            let Ok(found) = state::find_subtree(name) else {
                continue;
            };
            let blob = Blob {
                at: found.data,
                size: found.size as usize,
            };
            incoming.push(
                KBox::pin_init(incoming_dir.read_binary_file(name, blob), GFP_KERNEL)?,
                GFP_KERNEL,
            )?;
        }
    }
    Ok(Tree {
        outgoing: KVec::new(),
        outgoing_dir,
        _incoming: incoming,
        _files: (fdt, phys, len),
        _dirs: [root, out, incoming_root, incoming_dir],
        #[cfg(CONFIG_KEXEC_HANDOVER_DEBUG)]
        _corrupt: corrupt,
    })
}

/// Shows subtrees from when they are named to when they are freed.
struct Shows;

impl Watcher for Shows {
    fn added(&self, name: &CStr, at: PhysAddr, size: usize) {
        let mut guard = DEBUGFS.lock();
        let Some(tree) = guard.as_mut() else { return };
        let file = KBox::pin_init(
            tree.outgoing_dir.read_binary_file(name, Blob { at, size }),
            GFP_KERNEL,
        );
        let shown = file.and_then(|file| Ok(tree.outgoing.push((at, file), GFP_KERNEL)?));
        if shown.is_err() {
            pr_warn!("no debugfs file for a subtree: out of memory\n");
        }
    }

    fn removed(&self, at: PhysAddr) {
        let mut guard = DEBUGFS.lock();
        let Some(tree) = guard.as_mut() else { return };
        if let Some(index) = tree.outgoing.iter().position(|(have, _)| *have == at) {
            let removed = tree.outgoing.remove(index);
            // Removal waits for readers, who may want the lock.
            drop(guard);
            drop(removed);
        }
    }
}
