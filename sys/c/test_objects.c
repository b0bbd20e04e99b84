// SPDX-License-Identifier: GPL-2.0
/*
 * Carries many slab objects and array values over live updates, and says what that costs.
 *
 * A kernel booted with test_objects.count=N attaches what it was handed, verifies all of it, frees a
 * third of the objects and allocates as many again, and hands all over to the next one. The first makes
 * N objects of 64 bytes, and N values. Under QEMU's -icount a nanosecond is an instruction.
 */
#define pr_fmt(fmt) "test_objects: " fmt

#include <linux/err.h>
#include <linux/init.h>
#include <linux/io.h>
#include <linux/kho_array.h>
#include <linux/kho_slab.h>
#include <linux/ktime.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#define NAME "test.objects"
/* Values are far apart from time to time. */
#define INDEX(i) ((i) + (((i) / 4096) << 20))

static unsigned long count;
module_param(count, ulong, 0);

struct object {
	u64 number;
	u64 words[7];
};

static u64 word(u64 number, unsigned int i)
{
	return (number + 1) * 0x9e3779b97f4a7c15ULL + i;
}

static void fill(struct object *object, u64 number)
{
	object->number = number;
	for (int i = 0; i < ARRAY_SIZE(object->words); i++)
		object->words[i] = word(number, i);
}

static bool is_good(const struct object *object)
{
	for (int i = 0; i < ARRAY_SIZE(object->words); i++)
		if (object->words[i] != word(object->number, i))
			return false;
	return object->number < count;
}

static bool is_zero(const struct object *object)
{
	return !memchr_inv(object, 0, sizeof(*object));
}

static u64 each(u64 since)
{
	return div64_u64(ktime_get_ns() - since, count);
}

/* What kmem_cache takes for the same, to compare. */
static int __init compare(struct object **all)
{
	struct kmem_cache *cache = kmem_cache_create("test_objects", 64, 64, 0, NULL);
	u64 start, made;
	bool ok = true;

	if (!cache)
		return -ENOMEM;
	start = ktime_get_ns();
	for (u64 i = 0; i < count; i++) {
		all[i] = kmem_cache_zalloc(cache, GFP_KERNEL);
		if (!all[i])
			ok = false;
	}
	made = each(start);
	start = ktime_get_ns();
	for (u64 i = 0; i < count; i++)
		if (all[i])
			kmem_cache_free(cache, all[i]);
	pr_info("kmem_cache: ns an object: %llu to allocate, %llu to free\n", made, each(start));
	kmem_cache_destroy(cache);
	return ok ? 0 : -ENOMEM;
}

static int __init make(struct object **all)
{
	struct kho_slab *slab = kho_slab_create(NAME, sizeof(struct object), 64, NULL);
	struct kho_array *array = kho_array_create(NAME);
	u64 start, made, value;

	if (IS_ERR(slab) || IS_ERR(array))
		return -ENOMEM;
	start = ktime_get_ns();
	for (u64 i = 0; i < count; i++) {
		all[i] = kho_slab_alloc(slab);
		if (!all[i])
			return -ENOMEM;
	}
	made = each(start);
	start = ktime_get_ns();
	for (u64 i = 0; i < count; i++)
		if (kho_slab_free(slab, all[i]))
			return -EINVAL;
	pr_info("slab: ns an object: %llu to allocate, %llu to free\n", made, each(start));
	for (u64 i = 0; i < count; i++) {
		all[i] = kho_slab_alloc(slab);
		if (!all[i])
			return -ENOMEM;
		if (!is_zero(all[i]))
			return -EIO;
		fill(all[i], i);
		cond_resched();
	}
	start = ktime_get_ns();
	for (u64 i = 0; i < count; i++)
		if (kho_array_set(array, INDEX(i), virt_to_phys(all[i])) != 0)
			return -EINVAL;
	made = each(start);
	start = ktime_get_ns();
	for (u64 i = 0; i < count; i++)
		if (!kho_array_get(array, INDEX(i), &value) || value != virt_to_phys(all[i]))
			return -EINVAL;
	pr_info("array: ns a value: %llu to set, %llu to get\n", made, each(start));
	return 0;
}

static int __init resume(struct kho_slab *slab, u64 start)
{
	u64 attached = ktime_get_ns() - start, index = 0, value, seen = 0, position = 0, took;
	struct kho_array *array;
	struct object *object;

	start = ktime_get_ns();
	array = kho_array_attach(NAME);
	if (IS_ERR(array))
		return PTR_ERR(array);
	took = ktime_get_ns() - start;
	pr_info("attached %llu objects in %llu ns, %llu values in %llu ns\n", kho_slab_count(slab),
		attached, kho_array_count(array), took);
	if (kho_slab_count(slab) != count || kho_array_count(array) != count)
		return -EINVAL;
	for (; kho_array_next(array, &index, U64_MAX, &value); index++, seen++) {
		object = kho_slab_object(slab, value);
		if (!object || !is_good(object) || INDEX(object->number) != index)
			return -EINVAL;
		cond_resched();
	}
	if (seen != count)
		return -ENOENT;
	for (seen = 0; (object = kho_slab_next(slab, &position)); seen++)
		if (!is_good(object))
			return -EINVAL;
	if (seen != count)
		return -ENOENT;
	/* Some go, and others come in their place. */
	for (u64 i = 0; i < count; i += 3) {
		if (!kho_array_get(array, INDEX(i), &value) ||
		    kho_slab_free(slab, kho_slab_object(slab, value)) ||
		    !kho_array_clear(array, INDEX(i)))
			return -EINVAL;
		cond_resched();
	}
	for (u64 i = 0; i < count; i += 3) {
		object = kho_slab_alloc(slab);
		if (!object || !is_zero(object))
			return -EIO;
		fill(object, i);
		if (kho_array_set(array, INDEX(i), kho_slab_phys(slab, object)))
			return -EINVAL;
		cond_resched();
	}
	return 0;
}

static int __init test_objects(void)
{
	struct object **all;
	struct kho_slab *slab;
	u64 start;
	int err;

	if (!count)
		return 0;
	start = ktime_get_ns();
	slab = kho_slab_attach(NAME, sizeof(struct object), 64, NULL);
	if (!IS_ERR(slab)) {
		err = resume(slab, start);
		pr_info("resumed: %d\n", err);
		return 0;
	}
	if (PTR_ERR(slab) != -ENOENT) {
		pr_err("attach: %ld\n", PTR_ERR(slab));
		return 0;
	}
	all = vmalloc_array(count, sizeof(*all));
	err = all ? compare(all) ?: make(all) : -ENOMEM;
	vfree(all);
	pr_info("made %lu: %d\n", count, err);
	return 0;
}
late_initcall(test_objects);
