// SPDX-License-Identifier: GPL-2.0
/*
 * What preserved slab caches need of struct pages, and the exports of caches and arrays, which C alone
 * can declare.
 */
#include <linux/export.h>
#include <linux/kho_array.h>
#include <linux/kho_slab.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>

#include "glue.h"

/* What the owner of a page noted, or anything if that is somebody else; false if there is no page. */
bool lu_page_note(u64 pfn, u64 *note)
{
	struct page *page = pfn < max_pfn ? pfn_to_online_page(pfn) : NULL;

	if (page)
		*note = page_private(page);
	return page;
}

void lu_page_set_note(u64 pfn, u64 note)
{
	set_page_private(pfn_to_page(pfn), note);
}

EXPORT_SYMBOL_GPL(kho_slab_create);
EXPORT_SYMBOL_GPL(kho_slab_attach);
EXPORT_SYMBOL_GPL(kho_slab_attach_at);
EXPORT_SYMBOL_GPL(kho_slab_destroy);
EXPORT_SYMBOL_GPL(kho_slab_alloc);
EXPORT_SYMBOL_GPL(kho_slab_zalloc);
EXPORT_SYMBOL_GPL(kho_slab_free);
EXPORT_SYMBOL_GPL(kho_slab_next);
EXPORT_SYMBOL_GPL(kho_slab_object);
EXPORT_SYMBOL_GPL(kho_slab_phys);
EXPORT_SYMBOL_GPL(kho_slab_handle);
EXPORT_SYMBOL_GPL(kho_slab_count);

EXPORT_SYMBOL_GPL(kho_array_create);
EXPORT_SYMBOL_GPL(kho_array_attach);
EXPORT_SYMBOL_GPL(kho_array_attach_at);
EXPORT_SYMBOL_GPL(kho_array_destroy);
EXPORT_SYMBOL_GPL(kho_array_set);
EXPORT_SYMBOL_GPL(kho_array_get);
EXPORT_SYMBOL_GPL(kho_array_clear);
EXPORT_SYMBOL_GPL(kho_array_clear_range);
EXPORT_SYMBOL_GPL(kho_array_next);
EXPORT_SYMBOL_GPL(kho_array_handle);
EXPORT_SYMBOL_GPL(kho_array_count);
