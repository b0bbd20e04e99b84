// SPDX-License-Identifier: GPL-2.0
/*
 * vmalloc areas: what is in one, and making one of pages that are there already.
 */
#include <linux/kasan.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "../../../../../mm/internal.h"
#include "../../../../../mm/vmalloc.h"
#include "glue.h"

/* Flags as handed over. */
#define LU_VM_ALLOC		0x0001
#define LU_VM_HUGE_VMAP		0x0002

/*
 * Return: 0, -EINVAL if there is no area at @ptr, -EOPNOTSUPP if it is of a kind that cannot be
 * handed over.
 */
int lu_vmalloc_describe(const void *ptr, struct lu_area *area)
{
	struct vm_struct *vm = find_vm_area(ptr);

	if (!vm)
		return -EINVAL;
	if (vm->flags & ~(VM_ALLOC | VM_ALLOW_HUGE_VMAP))
		return -EOPNOTSUPP;
	area->pages = vm->pages;
	area->nr_pages = vm->nr_pages;
	area->order = get_vm_area_page_order(vm);
	area->flags = (vm->flags & VM_ALLOC ? LU_VM_ALLOC : 0) |
		      (vm->flags & VM_ALLOW_HUGE_VMAP ? LU_VM_HUGE_VMAP : 0);
	return 0;
}

struct page *lu_area_page(const struct lu_area *area, unsigned int index)
{
	return area->pages[index];
}

struct page **lu_page_array_alloc(unsigned long nr)
{
	return kvmalloc_array(nr, sizeof(struct page *), GFP_KERNEL | __GFP_NOWARN);
}

void lu_page_array_set(struct page **pages, unsigned long index, u64 pfn)
{
	pages[index] = pfn_to_page(pfn);
}

void lu_page_array_free(struct page **pages)
{
	kvfree(pages);
}

/*
 * Maps @pages, made up of contiguous blocks of @order, as a vmalloc area that vfree() will free.
 * The array becomes the area's, unless this fails.
 */
void *lu_vmap_restored(struct page **pages, unsigned int nr, unsigned int order,
		       u16 flags)
{
	unsigned int shift = PAGE_SHIFT + order;
	unsigned long vm_flags = VM_UNINITIALIZED;
	kasan_vmalloc_flags_t kasan = KASAN_VMALLOC_PROT_NORMAL;
	struct vm_struct *area;
	unsigned long start;

	if (flags & LU_VM_ALLOC) {
		vm_flags |= VM_ALLOC;
		kasan |= KASAN_VMALLOC_VM_ALLOC;
	}
	if (flags & LU_VM_HUGE_VMAP)
		vm_flags |= VM_ALLOW_HUGE_VMAP;

	area = __get_vm_area_node((unsigned long)nr << PAGE_SHIFT, 1UL << shift, shift,
				  vm_flags, VMALLOC_START, VMALLOC_END, NUMA_NO_NODE,
				  GFP_KERNEL, __builtin_return_address(0));
	if (!area)
		return NULL;
	start = (unsigned long)area->addr;
	if (vmap_pages_range(start, start + get_vm_area_size(area), PAGE_KERNEL, pages,
			     shift)) {
		free_vm_area(area);
		return NULL;
	}
	area->pages = pages;
	area->nr_pages = nr;
	area->addr = kasan_unpoison_vmalloc(area->addr, (unsigned long)nr << PAGE_SHIFT,
					    kasan);
	clear_vm_uninitialized_flag(area);
	return area->addr;
}

/* Undoes lu_vmap_restored() but leaves the pages and the array alone. */
void lu_vunmap_restored(void *ptr)
{
	struct vm_struct *area = find_vm_area(ptr);

	if (area) {
		area->pages = NULL;
		area->nr_pages = 0;
		free_vm_area(area);
	}
}
