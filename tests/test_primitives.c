// SPDX-License-Identifier: GPL-2.0
/*
 * Carries the same records through a live update with one primitive or another, and says what it
 * costs.
 *
 * The first kernel, if booted with test_primitives.kind=K .count=N .size=S, makes N records of S
 * bytes; the next one restores them, verifies each, and gives all back. The one after that is
 * handed nothing. Costs are in counts of get_cycles(), each of which is an instruction under QEMU's
 * -icount, and in bytes that are no longer free. For use on one processor.
 */
#define pr_fmt(fmt) "test_primitives: " fmt

#include <linux/bitmap.h>
#include <linux/err.h>
#include <linux/gfp.h>
#include <linux/init.h>
#include <linux/initrd.h>
#include <linux/io.h>
#include <linux/kexec_handover.h>
#include <linux/kho/abi/kexec_handover.h>
#include <linux/kho_array.h>
#include <linux/kho_block.h>
#include <linux/kho_slab.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/timex.h>
#include <linux/vmalloc.h>
#include <linux/vmstat.h>

#define NAME "test.primitives"
/* Sets are full at 10,000 blocks. */
#define SETS 64

static char *kind = "";
module_param(kind, charp, 0);
static unsigned long count;
module_param(count, ulong, 0);
static unsigned long size;
module_param(size, ulong, 0);

/* What leads to records that have no name of their own: a page, found as a subtree. */
struct root {
	u64 count;
	u64 size;
	struct kho_vmalloc area;
	u64 sets;
	u64 heads[SETS];
};

static struct root *root;
static struct kho_slab *slab;
static struct kho_array *array;
static void *area;
static u64 *table;
static struct kho_block_set sets[SETS];
/* Numbers of the records that were met. */
static unsigned long *seen;

static u64 word(u64 number, unsigned long i)
{
	return i ? (number + 1) * 0x9e3779b97f4a7c15ULL + i : number;
}

static void fill(u64 *record, u64 number)
{
	for (unsigned long i = 0; i < size / 8; i++)
		record[i] = word(number, i);
}

/* Whether this is a record that was not met before. */
static bool is_good(const u64 *record)
{
	u64 number = record[0];

	for (unsigned long i = 1; i < size / 8; i++)
		if (record[i] != word(number, i))
			return false;
	return number < count && !__test_and_set_bit(number, seen);
}

static void breathe(u64 i)
{
	if (i % 4096 == 0)
		cond_resched();
}

static int make_root(void)
{
	int err;

	root = kho_alloc_preserve(sizeof(*root));
	if (IS_ERR(root))
		return PTR_ERR(root);
	memset(root, 0, sizeof(*root));
	root->count = count;
	root->size = size;
	err = kho_add_subtree(NAME, root, sizeof(*root));
	if (err)
		kho_unpreserve_free(root);
	return err;
}

static int restore_root(void)
{
	struct folio *folio;
	phys_addr_t phys;
	size_t bytes;
	int err = kho_retrieve_subtree(NAME, &phys, &bytes);

	if (err)
		return err;
	folio = bytes == sizeof(*root) ? kho_restore_folio(phys) : NULL;
	if (!folio)
		return -EINVAL;
	root = folio_address(folio);
	return root->count == count && root->size == size && root->sets <= SETS ? 0 : -EINVAL;
}

static void free_root(void)
{
	folio_put(virt_to_folio(root));
}

/* Objects of a slab, which is walked. */

static int slab_make(void)
{
	slab = kho_slab_create(NAME, size, 8, NULL);
	if (IS_ERR(slab))
		return PTR_ERR(slab);
	for (u64 i = 0; i < count; i++) {
		u64 *record = kho_slab_alloc(slab);

		if (!record)
			return -ENOMEM;
		fill(record, i);
		breathe(i);
	}
	return 0;
}

static int slab_restore(void)
{
	slab = kho_slab_attach(NAME, size, 8, NULL);
	return PTR_ERR_OR_ZERO(slab);
}

static int slab_walk(void)
{
	u64 position = 0, *record;

	for (u64 i = 0; (record = kho_slab_next(slab, &position)); i++) {
		if (!is_good(record))
			return -EINVAL;
		breathe(i);
	}
	return 0;
}

static void slab_give_back(void)
{
	kho_slab_destroy(slab);
}

/* The same, and an array says which object has which number. */

static int array_make(void)
{
	slab = kho_slab_create(NAME, size, 8, NULL);
	array = kho_array_create(NAME);
	if (IS_ERR(slab) || IS_ERR(array))
		return -ENOMEM;
	for (u64 i = 0; i < count; i++) {
		u64 *record = kho_slab_alloc(slab);

		if (!record || kho_array_set(array, i, virt_to_phys(record)))
			return -ENOMEM;
		fill(record, i);
		breathe(i);
	}
	return 0;
}

static int array_restore(void)
{
	array = kho_array_attach(NAME);
	return PTR_ERR_OR_ZERO(array) ?: slab_restore();
}

static int array_walk(void)
{
	u64 index = 0, phys, *record;

	for (; kho_array_next(array, &index, U64_MAX, &phys); index++) {
		record = kho_slab_object(slab, phys);
		if (!record || !is_good(record) || record[0] != index)
			return -EINVAL;
		breathe(index);
	}
	return 0;
}

static void array_give_back(void)
{
	kho_array_destroy(array);
	kho_slab_destroy(slab);
}

/* No objects: the words of a record are values of an array. */

static int inline_make(void)
{
	array = kho_array_create(NAME);
	if (IS_ERR(array))
		return PTR_ERR(array);
	for (u64 i = 0; i < count; i++) {
		for (u64 j = 0; j < size / 8; j++)
			if (kho_array_set(array, i * (size / 8) + j, word(i, j)))
				return -ENOMEM;
		breathe(i);
	}
	return 0;
}

static int inline_restore(void)
{
	array = kho_array_attach(NAME);
	return PTR_ERR_OR_ZERO(array);
}

static int inline_walk(void)
{
	u64 words = size / 8, index = 0, value;

	for (u64 i = 0; i < count; i++) {
		for (u64 j = 0; j < words; j++, index++) {
			u64 at = index;

			if (!kho_array_next(array, &index, U64_MAX, &value) || index != at ||
			    value != word(i, j))
				return -EINVAL;
		}
		__set_bit(i, seen);
		breathe(i);
	}
	return kho_array_next(array, &index, U64_MAX, &value) ? -EINVAL : 0;
}

static void inline_give_back(void)
{
	kho_array_destroy(array);
}

/* A page for each, and their addresses in a vmalloc area. */

static int page_make(void)
{
	int err = make_root();

	table = vmalloc_array(count, sizeof(*table));
	if (err || !table)
		return err ?: -ENOMEM;
	for (u64 i = 0; i < count; i++) {
		u64 *record = kho_alloc_preserve(size);

		if (IS_ERR(record))
			return PTR_ERR(record);
		fill(record, i);
		table[i] = virt_to_phys(record);
		breathe(i);
	}
	return kho_preserve_vmalloc(table, &root->area);
}

static int page_restore(void)
{
	int err = restore_root();

	if (err)
		return err;
	table = kho_restore_vmalloc(&root->area);
	if (!table)
		return -ENOMEM;
	for (u64 i = 0; i < count; i++) {
		if (!kho_restore_folio(table[i]))
			return -EINVAL;
		breathe(i);
	}
	return 0;
}

static int page_walk(void)
{
	for (u64 i = 0; i < count; i++) {
		u64 *record = phys_to_virt(table[i]);

		if (!is_good(record) || record[0] != i)
			return -EINVAL;
		breathe(i);
	}
	return 0;
}

static void page_give_back(void)
{
	for (u64 i = 0; i < count; i++) {
		folio_put(virt_to_folio(phys_to_virt(table[i])));
		breathe(i);
	}
	vfree(table);
	free_root();
}

/* One area for all, of single pages or of huge ones. */

static int area_make(void *(*alloc)(size_t bytes))
{
	int err = make_root();

	area = alloc(count * size);
	if (err || !area)
		return err ?: -ENOMEM;
	for (u64 i = 0; i < count; i++) {
		fill(area + i * size, i);
		breathe(i);
	}
	return kho_preserve_vmalloc(area, &root->area);
}

static void *alloc_small(size_t bytes)
{
	return vmalloc(bytes);
}

static void *alloc_huge(size_t bytes)
{
	return vmalloc_huge(bytes, GFP_KERNEL);
}

static int vmalloc_make(void)
{
	return area_make(alloc_small);
}

static int huge_make(void)
{
	return area_make(alloc_huge);
}

static int vmalloc_restore(void)
{
	int err = restore_root();

	if (err)
		return err;
	area = kho_restore_vmalloc(&root->area);
	return area ? 0 : -ENOMEM;
}

static int vmalloc_walk(void)
{
	for (u64 i = 0; i < count; i++) {
		u64 *record = area + i * size;

		if (!is_good(record) || record[0] != i)
			return -EINVAL;
		breathe(i);
	}
	return 0;
}

static void vmalloc_give_back(void)
{
	vfree(area);
	free_root();
}

/* Sets of blocks, as many as it takes. */

static int block_make(void)
{
	u64 most = 10000 * ((PAGE_SIZE - sizeof(struct kho_block_header_ser)) / size);
	int err = make_root();

	if (err)
		return err;
	for (u64 i = 0; i < count; root->sets++) {
		u64 end = min(count, i + most);
		struct kho_block_set *set = &sets[root->sets];
		struct kho_block_set_it it;

		if (root->sets == SETS)
			return -E2BIG;
		kho_block_set_init(set, size);
		err = kho_block_set_grow(set, end - i);
		if (err)
			return err;
		root->heads[root->sets] = kho_block_set_head_pa(set);
		kho_block_set_it_init(&it, set);
		for (; i < end; i++) {
			u64 *record = kho_block_set_it_reserve_entry(&it);

			if (!record)
				return -ENOSPC;
			fill(record, i);
			breathe(i);
		}
	}
	return 0;
}

static int block_restore(void)
{
	int err = restore_root();

	for (u64 i = 0; !err && i < root->sets; i++) {
		kho_block_set_init(&sets[i], size);
		err = kho_block_set_restore(&sets[i], root->heads[i]);
	}
	return err;
}

static int block_walk(void)
{
	u64 number = 0, *record;

	for (u64 i = 0; i < root->sets; i++) {
		struct kho_block_set_it it;

		kho_block_set_it_init(&it, &sets[i]);
		for (; (record = kho_block_set_it_read_entry(&it)); number++) {
			if (!is_good(record) || record[0] != number)
				return -EINVAL;
			breathe(number);
		}
	}
	return 0;
}

static void block_give_back(void)
{
	for (u64 i = 0; i < root->sets; i++)
		kho_block_set_destroy(&sets[i]);
	free_root();
}

static const struct primitive {
	const char *kind;
	int (*make)(void);
	int (*restore)(void);
	int (*walk)(void);
	void (*give_back)(void);
} primitives[] = {
	{ "slab", slab_make, slab_restore, slab_walk, slab_give_back },
	{ "array", array_make, array_restore, array_walk, array_give_back },
	{ "array-inline", inline_make, inline_restore, inline_walk, inline_give_back },
	{ "page", page_make, page_restore, page_walk, page_give_back },
	{ "vmalloc", vmalloc_make, vmalloc_restore, vmalloc_walk, vmalloc_give_back },
	{ "vmalloc-huge", huge_make, vmalloc_restore, vmalloc_walk, vmalloc_give_back },
	{ "block", block_make, block_restore, block_walk, block_give_back },
};

static s64 free_bytes(void)
{
	struct zone *zone;
	s64 pages = 0;

	migrate_disable();
	drain_local_pages(NULL);
	migrate_enable();
	for_each_populated_zone(zone)
		pages += zone_page_state_snapshot(zone, NR_FREE_PAGES);
	return pages * PAGE_SIZE;
}

/*
 * What it takes to write and to verify the same, again and again in one place; and to zero a page.
 */
static void __init content(void)
{
	u64 *record = kmalloc(size, GFP_KERNEL), start, filled, verified;
	void *page = (void *)__get_free_page(GFP_KERNEL);
	bool ok = record && page;

	start = get_cycles();
	for (u64 i = 0; ok && i < count; i++) {
		fill(record, i);
		barrier();
	}
	filled = get_cycles() - start;
	start = get_cycles();
	for (u64 i = 0; ok && i < count; i++) {
		/* It is of that number: the last that was written. */
		__clear_bit(count - 1, seen);
		barrier();
		ok = is_good(record);
	}
	verified = get_cycles() - start;
	start = get_cycles();
	if (ok)
		clear_page(page);
	pr_info("content ok=%d fill=%llu verify=%llu zero=%llu\n", ok, filled, verified,
		get_cycles() - start);
	bitmap_zero(seen, count);
	free_page((unsigned long)page);
	kfree(record);
}

static int __init resume(const struct primitive *with)
{
	s64 before = free_bytes(), restored;
	u64 start = get_cycles(), restore, walk, give_back;
	int err = with->restore();

	if (err)
		return err;
	restore = get_cycles() - start;
	restored = free_bytes();
	start = get_cycles();
	err = with->walk();
	walk = get_cycles() - start;
	if (err || !bitmap_full(seen, count))
		return err ?: -ENOENT;
	start = get_cycles();
	with->give_back();
	give_back = get_cycles() - start;
	pr_info("arrived kind=%s size=%lu count=%lu restore=%llu walk=%llu give_back=%llu took=%lld back=%lld\n",
		kind, size, count, restore, walk, give_back, before - restored,
		free_bytes() - before);
	return 0;
}

static int __init make(const struct primitive *with)
{
	s64 before;
	u64 start, made;
	int err;

	content();
	before = free_bytes();
	start = get_cycles();
	err = with->make();
	made = get_cycles() - start;
	if (!err)
		pr_info("made kind=%s size=%lu count=%lu make=%llu bytes=%lld\n", kind, size, count,
			made, before - free_bytes());
	return err;
}

static int __init test_primitives(void)
{
	const struct primitive *with = primitives;
	u64 start;
	int err;

	if (!count)
		return 0;
	/* It is unpacked by a thread, which would run in between, and take memory. */
	wait_for_initramfs();
	start = get_cycles();
	while (with < primitives + ARRAY_SIZE(primitives) && strcmp(with->kind, kind))
		with++;
	if (with == primitives + ARRAY_SIZE(primitives) || !size || size % 8 || size > 2048) {
		pr_err("there is no kind \"%s\" of %lu bytes\n", kind, size);
		return 0;
	}
	seen = vzalloc(BITS_TO_LONGS(count) * sizeof(*seen));
	err = !seen ? -ENOMEM : is_kho_boot() ? resume(with) : make(with);
	vfree(seen);
	pr_info("done err=%d ticks=%llu\n", err, get_cycles() - start);
	return 0;
}
late_initcall(test_primitives);
