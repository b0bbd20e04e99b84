// SPDX-License-Identifier: GPL-2.0
//! Puts our crate into a Linux 7.3 tree, and takes it out again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};

use crate::block::{insert, strip, Block, Place};
use crate::version;

/// Where our crate goes in the kernel tree.
pub const CRATE: &str = "kernel/liveupdate/rust";

/// What Kbuild needs besides the folders.
const FILES: [&str; 3] = ["Kbuild", "Kconfig", "liveupdate.rs"];

/// The folders of the crate; one that the project does not have yet is left out.
pub const FOLDERS: [&str; 8] = [
    "entry",
    "eventfd_luo",
    "kho",
    "luo",
    "memfd_luo",
    "samples",
    "sys",
    "tests",
];

/// Host builds alone use it.
const HOST_ONLY: &str = "sys/host";

/// The API for drivers in Rust, which goes elsewhere.
pub const DRIVER: &str = "driver";

/// What of it goes where: files, or folders with all below. The rest of the folder stays out. The
/// API has two files and a folder in common with our crate.
const DRIVER_PLACES: [(&str, &str); 9] = [
    ("driver/liveupdate.rs", "rust/kernel/liveupdate.rs"),
    ("driver/liveupdate", "rust/kernel/liveupdate"),
    (
        "driver/liveupdate/declare.rs",
        "kernel/liveupdate/rust/driver/liveupdate/declare.rs",
    ),
    (
        "driver/liveupdate/layout.rs",
        "kernel/liveupdate/rust/driver/liveupdate/layout.rs",
    ),
    (
        "driver/liveupdate/record",
        "kernel/liveupdate/rust/driver/liveupdate/record",
    ),
    (
        "driver/c/liveupdate_record.h",
        "include/linux/liveupdate_record.h",
    ),
    (
        "driver/c/liveupdate_record.c",
        "kernel/liveupdate/rust/driver/c/liveupdate_record.c",
    ),
    ("driver/helpers.c", "rust/helpers/liveupdate.c"),
    ("driver/examples", "kernel/liveupdate/rust/driver/examples"),
];

/// Headers of our own API for drivers in C: as they are here, so in the kernel tree.
const HEADERS: [&str; 3] = [
    "include/linux/kho_array.h",
    "include/linux/kho_slab.h",
    "include/linux/liveupdate_arrival.h",
];

/// Documents whose place in the kernel tree is the same.
const DOCUMENTS: [&str; 2] = [
    "Documentation/ABI/testing/debugfs-kho",
    "Documentation/ABI/testing/sysfs-kernel-liveupdate",
];

/// The kernel's header of the user API.
const UAPI: &str = "include/uapi/linux/liveupdate.h";

/// Where eventfds are.
const EVENTFD: &str = "fs/eventfd.c";

/// Every line we change in files of the kernel.
const BLOCKS: &[Block] = &[
    // What `make headers_install` leaves is our header, without a trace of these blocks: it drops
    // what is for the kernel alone. The kernel itself goes on with mainline's. This block goes
    // first, as the other one brings the same names again.
    Block {
        file: UAPI,
        place: Place::End(&[
            "LIVEUPDATE_IOCTL_CREATE_SESSION",
            "LIVEUPDATE_IOCTL_RETRIEVE_SESSION",
            "LIVEUPDATE_SESSION_PRESERVE_FD",
            "LIVEUPDATE_SESSION_RETRIEVE_FD",
            "LIVEUPDATE_SESSION_FINISH",
            "LIVEUPDATE_SESSION_GET_NAME",
        ]),
        template: include_str!("../templates/uapi.end"),
    },
    Block {
        file: UAPI,
        place: Place::Before("/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */"),
        template: concat!(
            "/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */\n#ifndef __KERNEL__ /* liveupdate-rs begin */\n",
            include_str!("../../../uapi/liveupdate.h"),
            "#else /* liveupdate-rs end */\n",
        ),
    },
    Block {
        file: "rust/bindings/bindings_helper.h",
        place: Place::Before("/* `bindgen` gets confused at certain things. */"),
        template: include_str!("../templates/bindings_helper.h"),
    },
    Block {
        file: "rust/kernel/lib.rs",
        place: Place::After("pub mod list;"),
        template: include_str!("../templates/kernel_lib.rs"),
    },
    Block {
        file: "rust/helpers/helpers.c",
        place: Place::After("#include \"list.c\""),
        template: include_str!("../templates/helpers.c"),
    },
    Block {
        file: "kernel/liveupdate/Makefile",
        place: Place::End(&[
            "kho_block.o",
            "kexec_handover.o",
            "kexec_handover_debugfs.o",
            "luo.o",
        ]),
        template: include_str!("../templates/Makefile.end"),
    },
    Block {
        file: "mm/Makefile",
        place: Place::End(&["memfd_luo.o"]),
        template: include_str!("../templates/mm.Makefile.end"),
    },
    // A page does not come into being in a preserved memfd while the machine reboots.
    Block {
        file: "mm/shmem.c",
        place: Place::Before("int shmem_add_to_page_cache(struct folio *folio,"),
        template: include_str!("../templates/shmem_declare.c"),
    },
    Block {
        file: "mm/shmem.c",
        place: Place::Before("\t\txas_for_each_conflict(&xas, entry) {"),
        template: include_str!("../templates/shmem_insert.c"),
    },
    Block {
        file: "mm/shmem.c",
        place: Place::After("\t\tfolio_ref_sub(folio, nr);"),
        template: include_str!("../templates/shmem_wait.c"),
    },
    // What is preserved is reserved before anybody allocates who does not keep to scratch.
    Block {
        file: "mm/mm_init.c",
        place: Place::Before("void __init mm_core_init_early(void)"),
        template: include_str!("../templates/memory_declare.c"),
    },
    Block {
        file: "mm/mm_init.c",
        place: Place::After("\tfree_area_init();"),
        template: include_str!("../templates/memory_reserve.c"),
    },
    // Before that, nobody tests memory by writing to it, and a command line that cuts memory off is
    // seen.
    Block {
        file: "mm/memtest.c",
        place: Place::After("#include <linux/memblock.h>"),
        template: include_str!("../templates/memtest_include.c"),
    },
    Block {
        file: "mm/memtest.c",
        place: Place::Before("\tif (!memtest_pattern)"),
        template: include_str!("../templates/memtest_skip.c"),
    },
    Block {
        file: "arch/x86/kernel/setup.c",
        place: Place::Before("void __init setup_arch(char **cmdline_p)"),
        template: include_str!("../templates/setup_declare.c"),
    },
    Block {
        file: "arch/x86/kernel/setup.c",
        place: Place::Before("\te820__memblock_setup();"),
        template: include_str!("../templates/setup_known.c"),
    },
    // A region that is new on the command line can be handed over, as those that were revived.
    Block {
        file: "mm/memblock.c",
        place: Place::After("\tstart = memblock_phys_alloc(size, align);"),
        template: include_str!("../templates/reserve_mem.c"),
    },
    // Whoever changes the count of an eventfd that is preserved changes the next kernel's copy.
    Block {
        file: EVENTFD,
        place: Place::After("static DEFINE_IDA(eventfd_ida);"),
        template: include_str!("../templates/eventfd_note.c"),
    },
    Block {
        file: EVENTFD,
        place: Place::After("\tint id;"),
        template: include_str!("../templates/eventfd_field.c"),
    },
    Block {
        file: EVENTFD,
        place: Place::After("\t\tctx->count++;"),
        template: include_str!("../templates/eventfd_changed.c"),
    },
    Block {
        file: EVENTFD,
        place: Place::After("\tctx->count -= *cnt;"),
        template: include_str!("../templates/eventfd_changed.c"),
    },
    Block {
        file: EVENTFD,
        place: Place::After("\t\tctx->count += ucnt;"),
        template: include_str!("../templates/eventfd_written.c"),
    },
    Block {
        file: EVENTFD,
        place: Place::After("\tctx->flags = flags;"),
        template: include_str!("../templates/eventfd_new.c"),
    },
    Block {
        file: EVENTFD,
        place: Place::Before("static int do_eventfd(unsigned int count, int flags)"),
        template: include_str!("../templates/eventfd_include.c"),
    },
    // `depends on RUST` would be a circle: RUST, GENDWARFKSYMS, LTO, GCOV_KERNEL, DEBUG_FS, and
    // back. `select` asks for none of what RUST depends on, so that stands here again; what is in
    // the circle our Kbuild looks at.
    Block {
        file: "kernel/liveupdate/Kconfig",
        place: Place::After(
            "\tdepends on ARCH_SUPPORTS_KEXEC_HANDOVER && ARCH_SUPPORTS_KEXEC_FILE",
        ),
        template: include_str!("../templates/Kconfig.depends"),
    },
    Block {
        file: "kernel/liveupdate/Kconfig",
        place: Place::Before("endmenu"),
        template: include_str!("../templates/Kconfig.source"),
    },
    // The catalogue of formats: made when vmlinux is linked, in it and in a bzImage.
    Block {
        file: "scripts/Makefile.vmlinux",
        place: Place::Before("ifdef CONFIG_BUILDTIME_TABLE_SORT"),
        template: include_str!("../templates/Makefile.vmlinux"),
    },
    Block {
        file: "scripts/link-vmlinux.sh",
        place: Place::After("\tobjs=\"${objs} .vmlinux.export.o\""),
        template: include_str!("../templates/link-vmlinux.sh"),
    },
    Block {
        file: "arch/x86/boot/compressed/Makefile",
        place: Place::After("vmlinux-objs-$(CONFIG_EFI_SBAT) += $(obj)/sbat.o"),
        template: include_str!("../templates/compressed.Makefile"),
    },
    // The page about KHO has our functions for drivers in C as well.
    Block {
        file: "Documentation/core-api/kho/index.rst",
        place: Place::Before("See Also"),
        template: include_str!("../templates/kho_index.rst"),
    },
    Block {
        file: "Makefile",
        place: Place::Before("tools/: FORCE"),
        template: include_str!("../templates/Makefile.formats"),
    },
];

/// What a run changed, as paths from the tree's root.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub written: Vec<PathBuf>,
    pub removed: Vec<PathBuf>,
}

impl Changes {
    /// For a person: how many files were written and removed.
    pub fn summary(&self) -> String {
        match (self.written.len(), self.removed.len()) {
            (0, 0) => "nothing to change".into(),
            (w, 0) => format!("{w} files written"),
            (w, r) => format!("{w} files written, {r} removed"),
        }
    }
}

/// Brings the tree at `linux` up to date with the project at `project`.
///
/// Files whose bytes are right already are not touched, so that nothing is built again for
/// nothing. All that can be refused is refused before the first write.
pub fn integrate(project: &Path, linux: &Path) -> Result<Changes> {
    version::supported(linux)?;
    let mut files = our_files(project)?;
    files.extend(edited(linux, true)?);
    let stale: Vec<PathBuf> = present(linux)?
        .into_iter()
        .filter(|f| !files.contains_key(f))
        .collect();
    let written = write_all(linux, files)?;
    for file in &stale {
        let path = linux.join(file);
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(Changes {
        written,
        removed: stale,
    })
}

/// Takes everything of ours out of the tree at `linux`: its files are as they were, byte for byte.
pub fn unintegrate(linux: &Path) -> Result<Changes> {
    version::supported(linux)?;
    let written = write_all(linux, edited(linux, false)?)?;
    let removed = present(linux)?;
    for place in places() {
        let path = linux.join(place);
        // An in-tree build leaves its objects there too: the whole folder is ours.
        let done = match path.is_dir() {
            true => fs::remove_dir_all(&path),
            false if path.is_file() => fs::remove_file(&path),
            false => Ok(()),
        };
        done.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(Changes { written, removed })
}

/// The files and folders of the kernel tree that are ours.
fn places() -> impl Iterator<Item = &'static Path> {
    let driver = DRIVER_PLACES.iter().map(|(_, to)| *to);
    let all = std::iter::once(CRATE).chain(driver).chain(HEADERS);
    let all = all.chain(DOCUMENTS);
    all.map(Path::new)
}

/// The sources that stand in these places, each once.
fn present(linux: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for place in places() {
        match linux.join(place).is_file() {
            true => found.push(place.to_owned()),
            false => found.extend(sources(linux, place)?),
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// The kernel's files that hold our blocks, as they should read, with them or without.
fn edited(linux: &Path, with_blocks: bool) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut texts: BTreeMap<&str, String> = BTreeMap::new();
    for block in BLOCKS {
        let text = match texts.remove(block.file) {
            Some(text) => text,
            None => {
                let path = linux.join(block.file);
                let text = fs::read_to_string(&path).with_context(|| {
                    format!(
                        "cannot read {} (is this a whole Linux 7.3 tree?)",
                        path.display()
                    )
                })?;
                strip(block.file, &text)?
            }
        };
        let text = if with_blocks {
            insert(block, &text)?
        } else {
            text
        };
        texts.insert(block.file, text);
    }
    Ok(texts
        .into_iter()
        .map(|(file, text)| (PathBuf::from(file), text.into_bytes()))
        .collect())
}

/// Our files, by their place in the kernel tree.
fn our_files(project: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut names: Vec<PathBuf> = FILES.iter().map(PathBuf::from).collect();
    for folder in FOLDERS {
        names.extend(sources(project, Path::new(folder))?);
    }
    names.retain(|name| !name.starts_with(HOST_ONLY));
    let mut places: Vec<(PathBuf, PathBuf)> = names
        .into_iter()
        .map(|name| (Path::new(CRATE).join(&name), name))
        .collect();
    for (from, to) in DRIVER_PLACES {
        if project.join(from).is_file() {
            places.push((to.into(), from.into()));
            continue;
        }
        for name in sources(project, Path::new(from))? {
            let below = name
                .strip_prefix(from)
                .context("a file outside its folder")?;
            places.push((Path::new(to).join(below), name));
        }
    }
    places.extend(HEADERS.map(|header| (header.into(), header.into())));
    places.extend(DOCUMENTS.map(|page| (page.into(), page.into())));
    let mut files = BTreeMap::new();
    for (place, name) in places {
        let path = project.join(name);
        let bytes = fs::read(&path).with_context(|| {
            format!("cannot read {} (is the checkout complete?)", path.display())
        })?;
        files.insert(place, bytes);
    }
    Ok(files)
}

/// The source files below `base/folder`, as paths from `base`, sorted; none if there is no folder.
pub fn sources(base: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let dir = base.join(folder);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot list {}", dir.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", dir.display()))?;
        let name = folder.join(entry.file_name());
        if entry.path().is_dir() {
            found.extend(sources(base, &name)?);
        } else if is_source(&name) {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

fn is_source(name: &Path) -> bool {
    let file = name.file_name().and_then(|n| n.to_str());
    let kbuild =
        file.is_some_and(|n| matches!(n, "Kbuild" | "Kconfig") || n.starts_with("Makefile"));
    let extension = name.extension().and_then(|e| e.to_str());
    kbuild || matches!(extension, Some("rs" | "c" | "h" | "S"))
}

/// Writes the files whose bytes differ, and says which these were.
fn write_all(linux: &Path, files: BTreeMap<PathBuf, Vec<u8>>) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for (name, bytes) in files {
        let path = linux.join(&name);
        if fs::read(&path).is_ok_and(|old| old == bytes) {
            continue;
        }
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        if path.is_dir() {
            bail!(
                "{} is a folder where a file belongs; remove it",
                path.display()
            );
        }
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        written.push(name);
    }
    Ok(written)
}

#[cfg(test)]
#[path = "integrate_tests.rs"]
mod tests;
