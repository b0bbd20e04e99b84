// SPDX-License-Identifier: GPL-2.0
/*
 * Pages and folios of the running system: allocation, and the loops that hand struct pages over to
 * their new owners, one call a run.
 */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/khugepaged.h>
#include <linux/memblock.h>
#include <linux/mm.h>
#include <linux/pgalloc_tag.h>
#include <linux/slab.h>
#include <linux/vmstat.h>
#include <linux/workqueue.h>

#include "../../../../../mm/internal.h"
#include "../../../../../mm/mm_init.h"
#include "../../../../../mm/page_alloc.h"
#include "glue.h"

void *lu_phys_to_virt(u64 phys)
{
	return phys_to_virt(phys);
}

u64 lu_virt_to_phys(const void *virt)
{
	return virt_to_phys((void *)virt);
}

u64 lu_page_to_pfn(const struct page *page)
{
	return page_to_pfn(page);
}

struct page *lu_pfn_to_page(u64 pfn)
{
	return pfn_to_page(pfn);
}

u64 lu_end_of_memory(void)
{
	return max_pfn;
}

/* memblock knows until the page allocator has taken over; pfn_valid() and the zones do after it. */
bool __ref lu_is_ram(u64 pfn, u64 pages)
{
	if (!slab_is_available())
		return memblock_is_region_memory(PFN_PHYS(pfn), PFN_PHYS(pages));

	return pfn + pages <= max_pfn && pfn_to_online_page(pfn) &&
	       pfn_to_online_page(pfn + pages - 1);
}

int lu_pfn_to_nid(u64 pfn)
{
	return pfn_to_nid(pfn);
}

void lu_resched(void)
{
	cond_resched();
}

#ifdef CONFIG_MEMORY_HOTPLUG
static bool is_handed_over(u64 pfn)
{
	u64 start, end;

	for (u32 index = 0; lu_handed_ram(index, &start, &end); index++)
		if (pfn >= start && pfn < end)
			return true;
	return false;
}
#else
#define is_handed_over(pfn) true
#endif

/*
 * A page that can be handed over. Memory that was added while this kernel ran cannot; the machine
 * has had what lies low from the beginning.
 */
void *lu_zeroed_page(void)
{
	void *page = (void *)get_zeroed_page(GFP_KERNEL);

	if (!page || is_handed_over(page_to_pfn(virt_to_page(page))))
		return page;
	free_page((unsigned long)page);
	return (void *)get_zeroed_page(GFP_KERNEL | GFP_DMA32);
}

void lu_free_page(void *page)
{
	free_page((unsigned long)page);
}

bool lu_any_poisoned(u64 pfn, u64 pages)
{
	struct page *page = pfn_to_page(pfn);

	if (!IS_ENABLED(CONFIG_MEMORY_FAILURE) || !atomic_long_read(&num_poisoned_pages))
		return false;
	for (; pages; pages--, page++)
		if (PageHWPoison(page))
			return true;
	return false;
}

unsigned int lu_max_folio_order(void)
{
	return MAX_FOLIO_ORDER;
}

/*
 * Watermarks, and what is kept free at all, were made at boot for what memory there was then: as
 * little as all that is preserved leaves.
 */
static void make_watermarks(struct work_struct *work)
{
#ifdef CONFIG_MEMORY_HOTPLUG
	init_per_zone_wmark_min();
#else
	calculate_min_free_kbytes();
	setup_per_zone_wmarks();
	refresh_zone_stat_thresholds();
	khugepaged_min_free_kbytes_update();
#endif
}
static DECLARE_DELAYED_WORK(watermarks, make_watermarks);

/*
 * Counts pages as the page allocator's. The zones' reserves derive from that and cost a walk over
 * all zones, so they are brought up to date in steps of a pageblock or so, and what sleeps or costs
 * more a moment later.
 */
static void account(struct page *page, long pages)
{
	static atomic_long_t since;

	atomic_long_add(pages, &page_zone(page)->managed_pages);
	totalram_pages_add(pages);
	if (atomic_long_add_return(pages, &since) >= MAX_ORDER_NR_PAGES) {
		atomic_long_set(&since, 0);
		adjust_managed_page_count(page, 0);
		schedule_delayed_work(&watermarks, HZ / 4);
	}
}

/* The same for any range: it may touch several zones; a block of it may not. */
void lu_account(u64 pfn, long pages)
{
	while (pages) {
		struct page *page = pfn_to_page(pfn);
		long here = min_t(u64, abs(pages), zone_end_pfn(page_zone(page)) - pfn);

		account(page, pages < 0 ? -here : here);
		pfn += here;
		pages += pages < 0 ? here : -here;
	}
}

/* Preserved frames become order-0 pages with one reference each. */
void lu_give_out_pages(u64 pfn, u64 pages)
{
	struct page *page = pfn_to_page(pfn);
	unsigned long i;

	for (i = 0; i < pages; i++) {
		__ClearPageReserved(page + i);
		clear_page_tag_ref(page + i);
		set_page_count(page + i, 1);
	}
	lu_account(pfn, pages);
}

/*
 * Preserved frames become one folio, which is still to be counted, and has no reference yet: nobody
 * who goes by page numbers can take one before it is what it should be.
 */
struct folio *lu_make_folio(u64 pfn, unsigned int order)
{
	struct page *page = pfn_to_page(pfn);
	unsigned long i;

	clear_page_tag_ref(page);
	for (i = 0; i < 1UL << order; i++) {
		__ClearPageReserved(page + i);
		set_page_count(page + i, 0);
	}
	if (order)
		prep_compound_page(page, order);
	return page_rmappable_folio(page);
}

struct folio *lu_give_out_folio(u64 pfn, unsigned int order)
{
	struct folio *folio = lu_make_folio(pfn, order);

	account(pfn_to_page(pfn), 1L << order);
	folio_set_count(folio, 1);
	return folio;
}

/* Frees a reserved page, at any time after boot. */
void lu_free_reserved_page(u64 pfn)
{
	free_reserved_page(pfn_to_page(pfn));
}

/*
 * Frees those of the frames that are still marked reserved, in the largest blocks possible. During
 * boot only.
 */
void __ref lu_free_reserved(u64 pfn, u64 pages)
{
	u64 end = pfn + pages;

	while (pfn < end) {
		struct page *page = pfn_to_page(pfn);
		unsigned int order = 0, most = min_t(unsigned int, MAX_PAGE_ORDER,
						     ilog2(end - pfn));
		u64 i;

		if (!PageReserved(page)) {
			pfn++;
			continue;
		}
		if (pfn)
			most = min_t(unsigned int, most, __ffs64(pfn));
		for (i = 1; i < 1ULL << most && PageReserved(page + i); i++)
			;
		order = ilog2(i);
		for (i = 0; i < 1ULL << order; i++)
			clear_page_tag_ref(page + i);
		totalram_pages_add(1UL << order);
		__free_pages_core(page, order, MEMINIT_EARLY);
		pfn += 1ULL << order;
	}
}

u64 lu_folio_pfn(const struct folio *folio)
{
	return folio_pfn(folio);
}

unsigned int lu_folio_order(const struct folio *folio)
{
	return folio_order(folio);
}

void *lu_folio_address(const struct folio *folio)
{
	return folio_address(folio);
}

struct folio *lu_folio_of(const void *mem)
{
	return virt_to_folio(mem);
}

/* A zeroed folio that holds @size bytes; the caller has checked the size. */
struct folio *lu_folio_alloc(unsigned long size)
{
	return folio_alloc(GFP_KERNEL | __GFP_ZERO, get_order(size));
}

void lu_folio_put(struct folio *folio)
{
	folio_put(folio);
}

#if defined(CONFIG_LIVEUPDATE_EVENTFD) || defined(CONFIG_LIVEUPDATE_MEMFD)
static void free_block(u64 pfn, unsigned int order)
{
	struct page *page = pfn_to_page(pfn);

	for (u64 i = 0; i < 1ULL << order; i++) {
		__ClearPageReserved(page + i);
		set_page_count(page + i, !i);
		clear_page_tag_ref(page + i);
	}
	lu_account(pfn, 1L << order);
	__free_pages(page, order);
}

/* Claimed frames go to the page allocator, in the largest blocks it has. Bad ones stay out. */
void lu_free_waiting(u64 pfn, u64 pages)
{
	u64 end = pfn + pages;

	while (pfn < end) {
		unsigned int order = min_t(unsigned int, MAX_PAGE_ORDER, ilog2(end - pfn));

		if (pfn)
			order = min_t(unsigned int, order, __ffs64(pfn));
		if (!lu_any_poisoned(pfn, 1ULL << order)) {
			free_block(pfn, order);
		} else {
			for (u64 i = 0; i < 1ULL << order; i++)
				if (!PageHWPoison(pfn_to_page(pfn + i)))
					free_block(pfn + i, 0);
		}
		pfn += 1ULL << order;
		/* A range may be all memory of the machine, and freeing may mean to fill it. */
		cond_resched();
	}
}
#endif
