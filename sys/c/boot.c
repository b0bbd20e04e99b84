// SPDX-License-Identifier: GPL-2.0
/*
 * Early boot: memblock, struct pages before the page allocator runs, and scratch.
 *
 * Rust reaches these at run time only in ways that do not call the __init functions below, hence
 * __ref.
 */
#include <linux/cma.h>
#include <linux/crash_dump.h>
#include <linux/kexec_handover.h>
#include <linux/kmemleak.h>
#include <linux/memblock.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/page-isolation.h>
#include <linux/slab.h>
#include <linux/utsname.h>
#include <asm/early_ioremap.h>
#ifdef CONFIG_X86
#include <asm/e820/api.h>
#endif

#include "../../../../../mm/internal.h"
#include "../../../../../mm/mm_init.h"
#include "glue.h"

static_assert(PAGE_SIZE * MAX_ORDER_NR_PAGES >= CMA_MIN_ALIGNMENT_BYTES);

const char *lu_release(void)
{
	return init_uts_ns.name.release;
}

/* Before memblock has RAM, only the firmware's map says where it is; without one, trust. */
bool __ref lu_firmware_says_ram(u64 start, u64 size)
{
#ifdef CONFIG_X86
	return e820__mapped_all(start, start + size, E820_TYPE_RAM);
#else
	return true;
#endif
}

static int __init nid_of(int place)
{
	return place < 0 ? NUMA_NO_NODE : place;
}

static phys_addr_t __init limit_of(int place)
{
	return place == LU_LOW ? ARCH_LOW_ADDRESS_LIMIT : MEMBLOCK_ALLOC_ANYWHERE;
}

static u64 __init kernel_bytes(int place)
{
	return memblock_reserved_kern_size(limit_of(place), nid_of(place)) -
	       memblock_reserved_hugetlb_size(limit_of(place), nid_of(place));
}

/* Bytes this kernel reserved for itself, huge pages aside: those are never taken from scratch. */
u64 __ref lu_kernel_bytes(int place)
{
	return kernel_bytes(place);
}

static u64 __init early_alloc(u64 size, u64 align, int place)
{
	if (place == LU_LOW)
		return memblock_phys_alloc_range(size, align, 0, ARCH_LOW_ADDRESS_LIMIT);
	if (place == LU_ANYWHERE)
		return memblock_phys_alloc(size, align);
	return memblock_alloc_range_nid(size, align, 0, MEMBLOCK_ALLOC_ACCESSIBLE, place, true);
}

u64 __ref lu_early_alloc(u64 size, u64 align, int place)
{
	return early_alloc(size, align, place);
}

void __ref lu_early_free(u64 start, u64 size)
{
	memblock_phys_free(start, size);
}

int __ref lu_open_scratch(u64 start, u64 size)
{
	int err = memblock_add(start, size);

	return err ?: memblock_mark_kho_scratch(start, size);
}

void __ref lu_close_scratch(u64 start, u64 size)
{
	memblock_clear_kho_scratch(start, size);
}

void __ref lu_disown(u64 start, u64 size)
{
	memblock_remove(start, size);
}

/*
 * The map that the next kernel is told, in frames: false after the last entry; entries that are no
 * RAM are empty. Where there is no such map, the next kernel finds out as this one did.
 */
bool lu_handed_ram(u32 index, u64 *start, u64 *end)
{
#ifdef CONFIG_X86
	struct e820_table *table = e820_table_kexec;

	*start = *end = 0;
	if (index >= min(table->nr_entries, E820_MAX_ENTRIES_ZEROPAGE))
		return false;
	if (table->entries[index].type == E820_TYPE_RAM) {
		*start = PFN_UP(table->entries[index].addr);
		*end = PFN_DOWN(table->entries[index].addr + table->entries[index].size);
		*end = max(*start, *end);
	}
	return true;
#else
	*start = 0;
	*end = PHYS_PFN(PHYS_ADDR_MAX);
	return !index;
#endif
}

void __ref lu_scratch_only(bool on)
{
	if (on)
		memblock_set_kho_scratch_only();
	else
		memblock_clear_kho_scratch_only();
}

void __ref lu_open(u64 start, u64 size)
{
	memblock_mark_kho_scratch(start, size);
}

/* Reserved, with struct pages that lu_init_reserved() takes care of. */
int __ref lu_reserve_noinit(u64 start, u64 size)
{
	int err = memblock_reserve(start, size);

	if (err)
		return err;
	err = memblock_reserved_mark_noinit(start, size);
	if (err)
		memblock_phys_free(start, size);
	return err;
}

bool __ref lu_has_reserved(u64 start, u64 size)
{
	return memblock_is_region_reserved(start, size);
}

static struct memblock_region *__init region_of(phys_addr_t at)
{
	struct memblock_region *region;

	for_each_mem_region(region)
		if (at >= region->base && at - region->base < region->size)
			return region;
	return NULL;
}

static void __init ram_span(u64 pfn, u64 *start, u64 *end)
{
	struct memblock_region *region = region_of(PFN_PHYS(pfn));

	*start = region ? PFN_UP(region->base) : pfn;
	*end = region ? PFN_DOWN(region->base + region->size) : pfn;
}

/* The stretch of memory around a frame, in frames; empty if it is none. */
void __ref lu_ram_span(u64 pfn, u64 *start, u64 *end)
{
	ram_span(pfn, start, end);
}

static void __init free_span(u64 pfn, u64 *start, u64 *end)
{
	struct memblock_region *region = region_of(PFN_PHYS(pfn));

	*start = *end = pfn;
	if (!region || (region->flags & (MEMBLOCK_NOMAP | MEMBLOCK_KHO_SCRATCH |
					 MEMBLOCK_DRIVER_MANAGED)))
		return;
	*start = PFN_UP(region->base);
	*end = PFN_DOWN(region->base + region->size);
	for_each_reserved_mem_region(region) {
		u64 first = PFN_DOWN(region->base);
		u64 last = PFN_UP(region->base + region->size);

		if (last <= pfn)
			*start = max(*start, last);
		else if (first > pfn)
			*end = min(*end, first);
		else
			*start = *end = pfn;
	}
}

/*
 * The stretch around a frame that is memory of one kind, on one node, and neither reserved nor
 * scratch; empty if the frame itself is not such memory.
 */
void __ref lu_free_span(u64 pfn, u64 *start, u64 *end)
{
	free_span(pfn, start, end);
}

#ifdef CONFIG_DEFERRED_STRUCT_PAGE_INIT
/* Struct pages from here on are not initialised yet. */
static u64 __init first_deferred(int nid)
{
	return NODE_DATA(nid)->first_deferred_pfn;
}
#else
static u64 __init first_deferred(int nid)
{
	return U64_MAX;
}
#endif

/*
 * Nobody who goes by page numbers can take a reference, which would be lost when it is given out.
 */
static void __init hide(struct page *page)
{
	__SetPageReserved(page);
	set_page_count(page, 0);
}

static void __init init_deferred(u64 pfn, u64 end, int nid, bool reserved)
{
	while (pfn < end) {
		pg_data_t *node = NODE_DATA(nid);
		u64 zone_end = end;
		int zone;

		for (zone = 0; zone < MAX_NR_ZONES - 1; zone++)
			if (zone_spans_pfn(&node->node_zones[zone], pfn))
				break;
		if (zone_spans_pfn(&node->node_zones[zone], pfn))
			zone_end = min_t(u64, end, zone_end_pfn(&node->node_zones[zone]));
		for (; pfn < zone_end; pfn++) {
			struct page *page = pfn_to_page(pfn);

			__init_single_page(page, pfn, zone, nid);
			if (reserved)
				hide(page);
			if (pageblock_aligned(pfn))
				init_pageblock_migratetype(page,
					kho_scratch_migratetype(pfn, MIGRATE_MOVABLE), false);
		}
	}
}

static void __init init_reserved(u64 pfn, u64 pages)
{
	u64 end = pfn + pages;

	while (pfn < end) {
		unsigned long first, last;
		int nid = memblock_search_pfn_nid(pfn, &first, &last);
		u64 stop = end, deferred;

		if (numa_valid_node(nid))
			stop = max_t(u64, min_t(u64, end, last), pfn + 1);
		else
			nid = first_online_node;
		deferred = clamp_t(u64, first_deferred(nid), pfn, stop);
		for (; pfn < deferred; pfn++)
			hide(pfn_to_page(pfn));
		init_deferred(pfn, stop, nid, true);
		pfn = stop;
	}
}

static void __init init_free(u64 pfn, u64 pages)
{
	u64 end = pfn + pages;

	while (pfn < end) {
		unsigned long first, last;
		int nid = memblock_search_pfn_nid(pfn, &first, &last);
		u64 stop;

		if (!numa_valid_node(nid)) {
			pfn++;
			continue;
		}
		stop = max_t(u64, min_t(u64, end, last), pfn + 1);
		init_deferred(clamp_t(u64, first_deferred(nid), pfn, stop), stop, nid, false);
		pfn = stop;
	}
}

/*
 * Makes struct pages of free memory readable that are otherwise initialised later, and then again.
 * For neighbours of memory that may be freed before that: the page allocator looks at them.
 */
void __ref lu_init_free(u64 pfn, u64 pages)
{
	init_free(pfn, pages);
}

/* Makes struct pages of reserved memory valid: zone, node, PG_reserved. */
void __ref lu_init_reserved(u64 pfn, u64 pages)
{
	init_reserved(pfn, pages);
}

bool lu_slab_available(void)
{
	return slab_is_available();
}

/* Zeroed memory, whole pages of it before the page allocator runs. */
void *__ref lu_boot_alloc(unsigned long bytes)
{
	if (slab_is_available())
		return kvzalloc(bytes, GFP_KERNEL);
	return memblock_alloc(PAGE_ALIGN(bytes), PAGE_SIZE);
}

void __ref lu_boot_free(void *mem, unsigned long bytes, bool from_slab)
{
	if (from_slab)
		kvfree(mem);
	else
		memblock_free(mem, PAGE_ALIGN(bytes));
}

/* The next node that has memory, or -1. */
int lu_next_memory_node(int after)
{
	int nid = next_node(after, node_states[N_MEMORY]);

	return nid < MAX_NUMNODES ? nid : -1;
}

void *__ref lu_early_map(u64 phys, u64 len)
{
	return early_memremap(phys, len);
}

void __ref lu_early_unmap(void *map, u64 len)
{
	early_memunmap(map, len);
}

bool lu_is_kdump(void)
{
	return is_kdump_kernel();
}

static void __init scratch_to_cma(u64 start, u64 size)
{
	u64 pfn, end = PHYS_PFN(start + size);

	/* Nothing in scratch refers to anything, and what is free there need not even be mapped. */
	kmemleak_ignore_phys(start);
	for (pfn = PHYS_PFN(start); pfn < end; pfn += pageblock_nr_pages)
		init_cma_reserved_pageblock(pfn_to_page(pfn));
}

/* Frees scratch for movable use, so that it can always be emptied again. */
void __ref lu_scratch_to_cma(u64 start, u64 size)
{
	scratch_to_cma(start, size);
}

/* Frees scratch for any use. */
void __ref lu_scratch_to_buddy(u64 start, u64 size)
{
	free_reserved_area(__va(start), __va(start + size), -1, NULL);
}

struct nth_area {
	u32 left;
	u64 start;
	u64 end;
};

static int nth_area(struct cma *cma, void *data)
{
	struct nth_area *nth = data;

	/* Huge pages are user memory. */
	if (!strncmp(cma_get_name(cma), "hugetlb", 7) || nth->left--)
		return 0;
	nth->start = PHYS_PFN(cma_get_base(cma));
	nth->end = nth->start + PHYS_PFN(cma_get_size(cma));
	return 1;
}

/* CMA areas that are not for huge pages, in frames; false after the last one. */
bool lu_dma_area(u32 index, u64 *start, u64 *end)
{
	struct nth_area nth = { .left = index };

	if (!cma_for_each_area(nth_area, &nth))
		return false;
	*start = nth.start;
	*end = nth.end;
	return true;
}
