// SPDX-License-Identifier: GPL-2.0
/*
 * What preserved slab caches need of struct pages, locks, NUMA and kmalloc(), and the exports of
 * caches and arrays, which C alone can declare.
 */
#include <linux/export.h>
#include <linux/gfp.h>
#include <linux/kho_array.h>
#include <linux/kho_slab.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>
#include <linux/topology.h>

#include "glue.h"

/*
 * What the owner of the page at an address noted, or anything if that is somebody else; false if
 * there is no page. Where struct pages are one array, it is enough that reading it does not fault:
 * asking whether there is a page first costs as much as the rest of freeing an object.
 */
bool lu_page_note(const void *at, u64 *note)
{
	/* The address is anybody's: nothing is expected of it. */
	unsigned long pfn = PHYS_PFN(__pa_nodebug(at)), found;

	if (pfn >= max_pfn)
		return false;
	if (IS_ENABLED(CONFIG_SPARSEMEM_VMEMMAP)) {
		__get_kernel_nofault(&found, &pfn_to_page(pfn)->private, unsigned long, fault);
		*note = found;
		return true;
	} else {
		struct page *page = pfn_to_online_page(pfn);

		if (page)
			*note = page_private(page);
		return page;
	}
fault:
	return false;
}

void lu_page_set_note(u64 pfn, u64 note)
{
	set_page_private(pfn_to_page(pfn), note);
}

void *lu_kmalloc(size_t size, gfp_t flags)
{
	return kmalloc(size, flags);
}

void lu_kfree(const void *object)
{
	kfree(object);
}

void lu_spin_init(void *lock, const char *name, void *key)
{
#ifdef CONFIG_DEBUG_SPINLOCK
	__raw_spin_lock_init(lock, name, key, LD_WAIT_SPIN);
#else
	raw_spin_lock_init((raw_spinlock_t *)lock);
#endif
}

unsigned long lu_spin_lock(void *lock)
{
	unsigned long flags;

	raw_spin_lock_irqsave((raw_spinlock_t *)lock, flags);
	return flags;
}

bool lu_spin_trylock(void *lock, unsigned long *flags)
{
	return raw_spin_trylock_irqsave((raw_spinlock_t *)lock, *flags);
}

void lu_spin_unlock(void *lock, unsigned long flags)
{
	raw_spin_unlock_irqrestore((raw_spinlock_t *)lock, flags);
}

void lu_spin_assert_held(void *lock)
{
	lockdep_assert_held((raw_spinlock_t *)lock);
}

bool lu_may_sleep(gfp_t flags)
{
	return gfpflags_allow_blocking(flags);
}

int lu_this_node(void)
{
	return numa_mem_id();
}

EXPORT_SYMBOL_GPL(kho_slab_create);
EXPORT_SYMBOL_GPL(kho_slab_attach);
EXPORT_SYMBOL_GPL(kho_slab_attach_at);
EXPORT_SYMBOL_GPL(kho_slab_destroy);
EXPORT_SYMBOL_GPL(kho_slab_alloc);
EXPORT_SYMBOL_GPL(kho_slab_alloc_atomic);
EXPORT_SYMBOL_GPL(kho_slab_zalloc);
EXPORT_SYMBOL_GPL(kho_slab_free);
EXPORT_SYMBOL_GPL(kho_slab_free_atomic);
EXPORT_SYMBOL_GPL(kho_slab_shrink);
EXPORT_SYMBOL_GPL(kho_slab_save);
EXPORT_SYMBOL_GPL(kho_slab_load);
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
