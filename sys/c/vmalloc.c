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

/* Kinds of areas that can be handed over: the bit in the descriptor, and what it means here. */
static const struct {
	u16 handed;
	unsigned long here;
} kinds[] = {
	{ 0x0001, VM_ALLOC },
	{ 0x0002, VM_ALLOW_HUGE_VMAP },
};

/*
 * Return: 0, -EINVAL if there is no area at @ptr, -EOPNOTSUPP if it is of a kind that cannot be
 * handed over.
 */
int lu_vmalloc_describe(const void *ptr, struct lu_area *area)
{
	struct vm_struct *vm = find_vm_area(ptr);
	unsigned long rest;

	if (!vm)
		return -EINVAL;
	*area = (struct lu_area){
		.pages = vm->pages,
		.nr_pages = vm->nr_pages,
		.order = get_vm_area_page_order(vm),
	};
	rest = vm->flags;
	for (int i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (rest & kinds[i].here)
			area->flags |= kinds[i].handed;
		rest &= ~kinds[i].here;
	}
	return rest ? -EOPNOTSUPP : 0;
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

/* Address space for @bytes in mappings of @shift, not shown to anybody before it is filled. */
static struct vm_struct *reserve_area(unsigned long bytes, unsigned int shift, u16 flags)
{
	unsigned long kind = VM_UNINITIALIZED;

	for (int i = 0; i < ARRAY_SIZE(kinds); i++)
		if (flags & kinds[i].handed)
			kind |= kinds[i].here;
	return __get_vm_area_node(bytes, BIT(shift), shift, kind, VMALLOC_START, VMALLOC_END,
				  NUMA_NO_NODE, GFP_KERNEL, (void *)_RET_IP_);
}

/*
 * Maps @pages, made up of contiguous blocks of @order, as a vmalloc area that vfree() will free.
 * The array becomes the area's, unless this fails.
 */
void *lu_vmap_restored(struct page **pages, unsigned int nr, unsigned int order, u16 flags)
{
	unsigned long bytes = (unsigned long)nr << PAGE_SHIFT;
	unsigned int shift = PAGE_SHIFT + order;
	struct vm_struct *area = reserve_area(bytes, shift, flags);
	unsigned long at;

	if (!area)
		return NULL;
	at = (unsigned long)area->addr;
	if (vmap_pages_range(at, at + get_vm_area_size(area), PAGE_KERNEL, pages, shift)) {
		free_vm_area(area);
		return NULL;
	}
	area->pages = pages;
	area->nr_pages = nr;
	area->addr = kasan_unpoison_vmalloc(area->addr, bytes, KASAN_VMALLOC_PROT_NORMAL |
					    (area->flags & VM_ALLOC ? KASAN_VMALLOC_VM_ALLOC : 0));
	clear_vm_uninitialized_flag(area);
	return area->addr;
}
