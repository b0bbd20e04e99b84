// SPDX-License-Identifier: GPL-2.0
//! The integrator against a small tree that holds only the anchors.

use super::*;

const MAKEFILE: &str = "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n\ntools/: FORCE\n";
const KHO_PAGE: &str = "Public API\n==========\n\nSee Also\n========\n";
const VMLINUX: &str = "endif\n\nifdef CONFIG_BUILDTIME_TABLE_SORT\nendif\n";
const LINK: &str = "f()\n{\n\tobjs=\"${objs} .vmlinux.export.o\"\n}\n";
const COMPRESSED: &str =
    "vmlinux-objs-$(CONFIG_EFI_SBAT) += $(obj)/sbat.o\n\nifdef CONFIG_EFI_SBAT\n";
const BINDINGS: &str =
    "#include <a.h>\n\n/* `bindgen` gets confused at certain things. */\nconst int x;\n";
const LIB: &str = "pub mod kunit;\npub mod list;\npub mod mm;\n";
const HELPERS: &str = "#include \"kunit.c\"\n#include \"list.c\"\n#include \"mm.c\"\n";
const KBUILD: &str = "luo-y :=\t\\\n\t\tkho_block.o\t\\\n\t\tluo_core.o\n\n\
    obj-$(CONFIG_KEXEC_HANDOVER)\t+= kexec_handover.o\n\
    obj-$(CONFIG_KEXEC_HANDOVER_DEBUGFS)\t+= kexec_handover_debugfs.o\n\
    obj-$(CONFIG_LIVEUPDATE)\t+= luo.o\n";
const MM: &str = "obj-$(CONFIG_LIVEUPDATE_MEMFD) += memfd_luo.o\n";
const SHMEM: &str = "int shmem_add_to_page_cache(struct folio *folio,\n{\n\
    \t\txas_for_each_conflict(&xas, entry) {\n\t\t}\n\t\tfolio_ref_sub(folio, nr);\n}\n";
const MM_INIT: &str = "void __init mm_core_init_early(void)\n{\n\tfree_area_init();\n}\n";
const MEMTEST: &str = "#include <linux/memblock.h>\n\n{\n\tif (!memtest_pattern)\n\t\treturn;\n}\n";
const SETUP: &str = "void __init setup_arch(char **cmdline_p)\n{\n\te820__memblock_setup();\n}\n";
const MEMBLOCK: &str = "{\n\tstart = memblock_phys_alloc(size, align);\n}\n";
const EVENTFD_TEXT: &str =
    "static DEFINE_IDA(eventfd_ida);\n\nstruct eventfd_ctx {\n\tint id;\n};\n\n\
    {\n\t\tctx->count++;\n\tctx->count -= *cnt;\n\t\tctx->count += ucnt;\n}\n\n\
    static int do_eventfd(unsigned int count, int flags)\n{\n\tctx->flags = flags;\n}\n";
const UAPI_TEXT: &str =
    "/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */\n#ifndef _UAPI_LIVEUPDATE_H\n\
    #define LIVEUPDATE_IOCTL_CREATE_SESSION \\\n\t1\n#define LIVEUPDATE_IOCTL_RETRIEVE_SESSION 2\n\
    #define LIVEUPDATE_SESSION_PRESERVE_FD 3\n#define LIVEUPDATE_SESSION_RETRIEVE_FD 4\n\
    #define LIVEUPDATE_SESSION_FINISH 5\n#define LIVEUPDATE_SESSION_GET_NAME 6\n\
    #endif /* _UAPI_LIVEUPDATE_H */\n";
const KCONFIG: &str = "menu \"m\"\n\nconfig KEXEC_HANDOVER\n\
    \tdepends on ARCH_SUPPORTS_KEXEC_HANDOVER && ARCH_SUPPORTS_KEXEC_FILE\n\thelp\n\t  h\n\nendmenu\n";

fn put(base: &Path, name: &str, text: &str) {
    let path = base.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn get(base: &Path, name: &str) -> String {
    fs::read_to_string(base.join(name)).unwrap()
}

/// A project and a kernel tree, small.
fn fakes() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (project, linux) = (dir.path().join("project"), dir.path().join("linux"));
    for (name, text) in [
        ("Kbuild", "obj-y += liveupdate.o\n"),
        ("Kconfig", "# none\n"),
        ("liveupdate.rs", "mod kho;\n"),
        ("kho/mod.rs", "//\n"),
        ("kho/notes.txt", "not a source\n"),
        ("sys/c.c", "int c;\n"),
        ("sys/host/mod.rs", "// host only\n"),
        ("driver/liveupdate.rs", "mod handle;\n"),
        ("driver/liveupdate/handle.rs", "//\n"),
        ("driver/helpers.c", "int h;\n"),
        ("driver/examples/counter.rs", "//\n"),
        ("samples/ring.rs", "// ring\n"),
        ("include/linux/kho_array.h", "/* array */\n"),
        ("include/linux/kho_slab.h", "/* slab */\n"),
        ("include/linux/liveupdate_arrival.h", "/* arrival */\n"),
        ("Documentation/ABI/testing/debugfs-kho", "What: debugfs\n"),
        (
            "Documentation/ABI/testing/sysfs-kernel-liveupdate",
            "What: sysfs\n",
        ),
    ] {
        put(&project, name, text);
    }
    for (name, text) in originals() {
        put(&linux, name, text);
    }
    (dir, project, linux)
}

fn originals() -> Vec<(&'static str, &'static str)> {
    vec![
        ("Documentation/core-api/kho/index.rst", KHO_PAGE),
        ("Makefile", MAKEFILE),
        ("rust/bindings/bindings_helper.h", BINDINGS),
        ("rust/kernel/lib.rs", LIB),
        ("rust/helpers/helpers.c", HELPERS),
        ("kernel/liveupdate/Makefile", KBUILD),
        ("mm/shmem.c", SHMEM),
        ("mm/mm_init.c", MM_INIT),
        ("mm/memtest.c", MEMTEST),
        ("mm/memblock.c", MEMBLOCK),
        ("arch/x86/kernel/setup.c", SETUP),
        ("kernel/liveupdate/Kconfig", KCONFIG),
        ("mm/Makefile", MM),
        (EVENTFD, EVENTFD_TEXT),
        (UAPI, UAPI_TEXT),
        ("scripts/Makefile.vmlinux", VMLINUX),
        ("scripts/link-vmlinux.sh", LINK),
        ("arch/x86/boot/compressed/Makefile", COMPRESSED),
    ]
}

#[test]
fn there_and_back_leaves_the_tree_as_it_was() {
    let (_dir, project, linux) = fakes();
    let first = integrate(&project, &linux).unwrap();
    assert_eq!(first.written.len(), 14 + 5 + 4 + 3 + 2 + 5);
    assert!(get(&linux, "kernel/liveupdate/Makefile").contains("+= rust/"));
    assert!(!linux.join(CRATE).join("sys/host/mod.rs").exists());
    assert!(!linux.join(CRATE).join("kho/notes.txt").exists());
    assert!(get(&linux, "rust/kernel/lib.rs").contains("pub mod liveupdate;"));
    assert_eq!(get(&linux, "rust/kernel/liveupdate/handle.rs"), "//\n");
    assert_eq!(get(&linux, "rust/helpers/liveupdate.c"), "int h;\n");
    assert_eq!(get(&linux, "include/linux/kho_slab.h"), "/* slab */\n");
    let sample = format!("{CRATE}/samples/ring.rs");
    assert_eq!(get(&linux, &sample), "// ring\n");
    assert!(linux
        .join(CRATE)
        .join("driver/examples/counter.rs")
        .exists());

    unintegrate(&linux).unwrap();
    for (name, text) in originals() {
        assert_eq!(get(&linux, name), text, "{name}");
    }
    assert!(!linux.join(CRATE).exists());
    assert!(!linux.join("rust/kernel/liveupdate.rs").exists());
    assert!(!linux.join("rust/kernel/liveupdate").exists());
    assert!(!linux.join("rust/helpers/liveupdate.c").exists());
    assert!(!linux.join("include/linux/kho_array.h").exists());
    assert_eq!(unintegrate(&linux).unwrap(), Changes::default());
}

#[test]
fn again_changes_nothing() {
    let (_dir, project, linux) = fakes();
    integrate(&project, &linux).unwrap();
    assert_eq!(integrate(&project, &linux).unwrap(), Changes::default());
}

#[test]
fn only_what_differs_is_written_and_what_is_gone_goes() {
    let (_dir, project, linux) = fakes();
    integrate(&project, &linux).unwrap();
    put(&project, "kho/mod.rs", "// changed\n");
    fs::remove_file(project.join("sys/c.c")).unwrap();
    fs::remove_file(project.join("driver/liveupdate/handle.rs")).unwrap();
    put(
        &linux,
        &format!("{CRATE}/sys/c.o"),
        "an object of an in-tree build",
    );
    let changes = integrate(&project, &linux).unwrap();
    assert_eq!(changes.written, [Path::new(CRATE).join("kho/mod.rs")]);
    let gone = ["sys/c.c", "../../../rust/kernel/liveupdate/handle.rs"];
    assert_eq!(changes.removed.len(), gone.len(), "{:?}", changes.removed);
    for name in gone {
        assert!(!linux.join(CRATE).join(name).exists(), "{name}");
    }
    assert!(linux.join(CRATE).join("sys/c.o").exists());
}

#[test]
fn an_older_block_is_replaced() {
    let (_dir, project, linux) = fakes();
    integrate(&project, &linux).unwrap();
    let name = "rust/bindings/bindings_helper.h";
    let ours = get(&linux, name);
    put(
        &linux,
        name,
        &ours.replace("<linux/cma.h>", "<linux/older.h>"),
    );
    let changes = integrate(&project, &linux).unwrap();
    assert_eq!(changes.written, [Path::new(name)]);
    assert_eq!(get(&linux, name), ours);
}

#[test]
fn one_missing_anchor_means_no_write_at_all() {
    let (_dir, project, linux) = fakes();
    put(
        &linux,
        "kernel/liveupdate/Makefile",
        "obj-y += kho_block.o\n",
    );
    let err = integrate(&project, &linux).unwrap_err().to_string();
    assert!(err.contains("kernel/liveupdate/Makefile"), "{err}");
    assert!(err.contains("kexec_handover.o"), "{err}");
    assert_eq!(get(&linux, "rust/bindings/bindings_helper.h"), BINDINGS);
    assert!(!linux.join(CRATE).exists());
}

#[test]
fn another_version_or_no_tree_is_refused() {
    let (_dir, project, linux) = fakes();
    put(
        &linux,
        "Makefile",
        "VERSION = 7\nPATCHLEVEL = 2\nSUBLEVEL = 13\n",
    );
    let err = integrate(&project, &linux).unwrap_err().to_string();
    assert!(err.contains("Linux 7.2.13"), "{err}");
    let err = integrate(&project, &project).unwrap_err().to_string();
    assert!(err.contains("not a Linux source tree"), "{err}");
    let err = integrate(&project, &linux.join("nowhere"))
        .unwrap_err()
        .to_string();
    assert!(err.contains("not a folder"), "{err}");
}

/// What a C compiler is given, or programs get: the lines of an `#ifndef` of this name, or those of
/// its `#else`.
fn taken(text: &str, defined: bool) -> Vec<&str> {
    let mut lines = text.lines();
    let first = lines.by_ref().take_while(|l| !l.starts_with("#else"));
    let (first, rest): (Vec<&str>, Vec<&str>) = (first.skip(1).collect(), lines.collect());
    match defined {
        false => first,
        true => rest.split_last().map_or(&[][..], |(_, r)| r).to_vec(),
    }
}

#[test]
fn programs_get_our_header_and_the_kernel_has_its_own() {
    let (_dir, project, linux) = fakes();
    integrate(&project, &linux).unwrap();
    let text = get(&linux, UAPI);
    assert!(text.starts_with("#ifndef __KERNEL__ "), "{text}");
    let ours = include_str!("../../../uapi/liveupdate.h");
    assert_eq!(taken(&text, false), ours.lines().collect::<Vec<_>>());
    let mut kernels = taken(&text, true);
    assert_eq!(kernels.pop(), Some("/* liveupdate-rs begin */"));
    assert_eq!(kernels, UAPI_TEXT.lines().collect::<Vec<_>>());
}
