/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What Rust calls in C beyond the tree's own headers: macros, inline and __init functions, and
 * loops over struct pages. Read by the C compiler and, by itself, by bindgen.
 */
#ifndef _LIVEUPDATE_GLUE_H
#define _LIVEUPDATE_GLUE_H

#ifdef __BINDGEN__
typedef unsigned long long u64;
typedef unsigned int u32;
typedef unsigned short u16;
typedef _Bool bool;
typedef __SIZE_TYPE__ size_t;
typedef unsigned int gfp_t;

/* What Rust defines for drivers; beside the kernel's other headers, in its tree. */
#include "../../../../../include/linux/kho_array.h"
#include "../../../../../include/linux/kho_slab.h"
#else
#include <linux/types.h>
#endif

struct page;
struct folio;
struct file;
struct module;
struct liveupdate_flb;
struct liveupdate_file_handler;
struct liveupdate_file_op_args;

/* Places for an early allocation, next to node numbers. */
#define LU_LOW (-1)
#define LU_ANYWHERE (-2)

/* This kernel's release, NUL-terminated. */
const char *lu_release(void);

/* Addresses. */
void *lu_phys_to_virt(u64 phys);
u64 lu_virt_to_phys(const void *virt);
u64 lu_page_to_pfn(const struct page *page);
struct page *lu_pfn_to_page(u64 pfn);
u64 lu_end_of_memory(void);
bool lu_is_ram(u64 pfn, u64 pages);
int lu_pfn_to_nid(u64 pfn);
int lu_this_node(void);
void lu_resched(void);

/* Pages of the running system (pages.c). */
void *lu_zeroed_page(void);
void lu_free_page(void *page);
bool lu_any_poisoned(u64 pfn, u64 pages);
unsigned int lu_max_folio_order(void);
void lu_give_out_pages(u64 pfn, u64 pages);
struct folio *lu_give_out_folio(u64 pfn, unsigned int order);
void lu_free_reserved(u64 pfn, u64 pages);
void lu_free_reserved_page(u64 pfn);
struct folio *lu_make_folio(u64 pfn, unsigned int order);
void lu_account(u64 pfn, long pages);
u64 lu_folio_pfn(const struct folio *folio);
unsigned int lu_folio_order(const struct folio *folio);
void *lu_folio_address(const struct folio *folio);
struct folio *lu_folio_of(const void *mem);
struct folio *lu_folio_alloc(unsigned long size);
void lu_folio_put(struct folio *folio);

/* Notes in struct pages (objects.c). */
bool lu_page_note(const void *at, u64 *note);
void lu_page_set_note(u64 pfn, u64 note);
void *lu_kmalloc(size_t size, gfp_t flags);
void lu_kfree(const void *object);
bool lu_may_sleep(gfp_t flags);
void lu_spin_init(void *lock, const char *name, void *key);
void lu_spin_assert_held(void *lock);
unsigned long lu_spin_lock(void *lock);
bool lu_spin_trylock(void *lock, unsigned long *flags);
void lu_spin_unlock(void *lock, unsigned long flags);

/* vmalloc areas (vmalloc.c). */
struct lu_area {
	struct page **pages;
	unsigned int nr_pages;
	unsigned int order;
	u16 flags;
};
int lu_vmalloc_describe(const void *ptr, struct lu_area *area);
struct page *lu_area_page(const struct lu_area *area, unsigned int index);
struct page **lu_page_array_alloc(unsigned long nr);
void lu_page_array_set(struct page **pages, unsigned long index, u64 pfn);
void lu_page_array_free(struct page **pages);
void *lu_vmap_restored(struct page **pages, unsigned int nr, unsigned int order,
		       u16 flags);

/* memfds (memfd.c, memfd_fill.c). */
struct lu_memfd_about {
	u64 pos;
	u64 size;
	u32 seals;
	u32 mode;
	bool writable;
	/* Its holes are larger than what memory is available. */
	bool no_room;
	/* Without "memfd:" in front of it; not NUL-terminated. */
	unsigned int name_len;
	unsigned char name[256];
};
struct lu_memfd_folio {
	u64 pfn;
	u64 index;
	u32 order;
};
struct lu_memfd_run {
	u64 pfn;
	u64 index;
	u64 count;
	u32 order;
	bool filled;
};
bool lu_memfd_is_ours(const struct file *file);
unsigned long lu_memfd_id(const struct file *file);
void lu_memfd_describe(struct file *file, struct lu_memfd_about *about);
bool lu_memfd_freeze(struct file *file);
void lu_memfd_thaw(struct file *file);
int lu_memfd_pin(struct file *file, u64 index, u64 end, struct lu_memfd_folio *into,
		 unsigned int most);
int lu_memfd_pin_present(struct file *file, u64 *index, u64 end, struct lu_memfd_folio *into,
			 unsigned int most);
u64 lu_memfd_in_memory(const struct file *file);
u64 lu_memfd_swapped(const struct file *file);
u64 lu_memfd_charged(const struct file *file);
void lu_memfd_unpin_run(u64 pfn, u64 folios, unsigned int order);
void lu_memfd_close_holes(struct file *file);
void lu_memfd_open_holes(void);
u32 lu_memfd_zone(u64 pfn);
void lu_memfd_orders(struct lu_memfd_folio *folios, unsigned int nr);
void lu_memfd_unpin(const struct lu_memfd_folio *folios, unsigned int nr);
unsigned int lu_memfd_max_order(void);
unsigned int lu_memfd_merge_order(void);
struct file *lu_memfd_create(const struct lu_memfd_about *about);
void lu_memfd_put(struct file *file);
int lu_memfd_fill(struct file *file, const struct lu_memfd_run *runs, unsigned int nr,
		  bool shared);
int lu_memfd_share(struct file *file, u64 pages, u64 expected);
void lu_memfd_come_out(struct file *file, u64 left);
void lu_memfd_take_back(struct file *file, struct lu_memfd_folio *folios, unsigned int nr);
int lu_memfd_publish(struct file *file, u64 pages);
void lu_free_waiting(u64 pfn, u64 pages);

/* What mm/shmem.c asks (memfd_holes.c): whether a page may come into being in a file. */
struct address_space;
bool lu_shmem_closed(const struct address_space *mapping);
int lu_shmem_wait(const struct address_space *mapping);

/* What the memfd handlers do, each with its version; defined in Rust. */
int lu_memfd_preserve(struct file *file, u32 version, u64 *data);
void lu_memfd_unpreserve(struct file *file, u32 version, u64 data);
int lu_memfd_update(struct file *file, u32 version, u64 data, bool maybe_bad);
int lu_memfd_convert(struct file *file, u32 to, u64 data);
int lu_memfd_retrieve(u32 version, u64 data, struct file **file);
void lu_memfd_discard(u32 version, u64 data);

/* eventfds: eventfd_ctx.h, in fs/eventfd.c; then what the handler does, defined in Rust. */
bool lu_eventfd_is_ours(const struct file *file);
bool lu_eventfd_semaphore(const struct file *file);
bool lu_eventfd_nonblocking(const struct file *file);
bool lu_eventfd_attached(const struct file *file);
int lu_eventfd_keep(struct file *file, u64 at);
void lu_eventfd_unkeep(struct file *file);
struct file *lu_eventfd_create(u64 count, bool semaphore, bool nonblocking);
int lu_eventfd_preserve(struct file *file, u64 *data);
void lu_eventfd_unpreserve(struct file *file, u64 data);
int lu_eventfd_freeze(struct file *file, u64 data);
int lu_eventfd_retrieve(u64 data, struct file **file);
void lu_eventfd_discard(u64 data);

/* memblock and the boot (boot.c). */
bool lu_firmware_says_ram(u64 start, u64 size);
u64 lu_kernel_bytes(int place);
u64 lu_early_alloc(u64 size, u64 align, int place);
void lu_early_free(u64 start, u64 size);
int lu_open_scratch(u64 start, u64 size);
void lu_close_scratch(u64 start, u64 size);
void lu_scratch_only(bool on);
void lu_open(u64 start, u64 size);
int lu_reserve_noinit(u64 start, u64 size);
bool lu_has_reserved(u64 start, u64 size);
void lu_disown(u64 start, u64 size);
bool lu_handed_ram(u32 index, u64 *start, u64 *end);
bool lu_dma_area(u32 index, u64 *start, u64 *end);
void lu_ram_span(u64 pfn, u64 *start, u64 *end);
void lu_free_span(u64 pfn, u64 *start, u64 *end);
void lu_init_reserved(u64 pfn, u64 pages);
void lu_init_free(u64 pfn, u64 pages);
void *lu_boot_alloc(unsigned long bytes);
void lu_boot_free(void *mem, unsigned long bytes, bool from_slab);
bool lu_slab_available(void);
int lu_next_memory_node(int after);
void *lu_early_map(u64 phys, u64 len);
void lu_early_unmap(void *map, u64 len);
bool lu_is_kdump(void);
void lu_scratch_to_cma(u64 start, u64 size);
void lu_scratch_to_buddy(u64 start, u64 size);

/* This kernel's own catalogue of formats (luo/formats/build/note.S). */
extern const unsigned char liveupdate_catalogue[], liveupdate_catalogue_end[];

/* The orchestrator (luo.c). */
void lu_panic(const char *why);
int lu_gate_enter(void);
void lu_gate_enter_always(void);
void lu_gate_leave(void);
void lu_gate_close(void);
void lu_gate_open(void);
bool lu_module_get(struct module *module);
void lu_module_keep(struct module *module);
void lu_module_put(struct module *module);
u64 lu_file_bytes(const struct file *file);
void lu_flb_init(struct liveupdate_flb *flb);
void lu_test_register(struct liveupdate_file_handler *handler);

/* Formats (luo_formats.c): the next kernel's image, and this kernel's catalogue. */
unsigned long lu_loaded_image(bool *handed);
const char *lu_hidden_formats(void);
struct kobject;
int lu_formats_folder(struct kobject *parent);
int lu_format_show(const char *name, u32 version);
void lu_format_hide(const char *name, u32 version);
/* Of a handler that has more than one version; see luo_formats.c. */
typedef int (*lu_convert_fn)(struct liveupdate_file_op_args *args, u32 from);

/* What /sys/kernel/liveupdate shows (luo_sysfs.c asks, Rust answers). */
#define LU_SHOW_ENABLED 0
#define LU_SHOW_STATE 1
#define LU_SHOW_NUMBER 2
#define LU_SHOW_PREVIOUS 3
#define LU_SHOW_LAST_ERROR 4
#define LU_SHOW_LOADED 5
#define LU_SHOW_ARRIVED 6
#define LU_SHOW_ARRIVAL 7
unsigned long lu_luo_show(unsigned int what, unsigned char *to, unsigned long len);
unsigned long lu_luo_sessions(u64 offset, unsigned char *to, unsigned long len);

/* Called by C at boot; defined in Rust. */
int lu_parse_liveupdate(bool on);
int lu_parse_on_error(bool panic);
int lu_parse_unknown(bool mainline);
int lu_parse_audit(bool on);
int lu_luo_register_version(struct liveupdate_file_handler *handler, lu_convert_fn convert,
			    const void *family);
#define LU_FORMAT_READ 0
#define LU_FORMAT_WRITE 1
#define LU_FORMAT_ENABLED 2
#define LU_FORMAT_USERS 3
long lu_format_attribute(const char *name, u32 version, unsigned int what);
int lu_format_enable(const char *name, u32 version, bool on);
int lu_luo_start(void);
int lu_luo_publish(void);
bool liveupdate_file_is_preserved(struct file *file);
int lu_parse_scratch(const char *arg);
int lu_parse_enable(bool on);
int lu_settle(void);
int lu_init(void);
void lu_reboot(void);

#endif
