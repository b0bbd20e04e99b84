// SPDX-License-Identifier: GPL-2.0
/*
 * Carries many slab objects and array values over live updates, and says what that costs.
 *
 * A kernel booted with test_objects.count=N attaches what it was handed, verifies all of it, frees
 * a third of the objects and allocates as many again, and hands all over to the next one. The first
 * makes N objects of 64 bytes, and N values. What is written to test_objects.change frees and
 * allocates that third again, at any time. Costs are in counts of get_cycles(); under QEMU's
 * -icount, instructions.
 */
#define pr_fmt(fmt) "test_objects: " fmt

#include <linux/err.h>
#include <linux/init.h>
#include <linux/initrd.h>
#include <linux/io.h>
#include <linux/kho_array.h>
#include <linux/kho_slab.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/timex.h>
#include <linux/vmalloc.h>

#include "test_objects.h"

#define NAME "test.objects"
/* Values are far apart from time to time. */
#define INDEX(i) ((i) + (((i) / 4096) << 20))

static unsigned long count;
module_param(count, ulong, 0);

static struct kho_slab *objects;
static struct kho_array *numbers;
/*
 * How often the third was freed and made again. An object's number is its place, and count for each
 * time: so one that is not of the latest is seen.
 */
static u64 rounds;

static u64 each(u64 since)
{
	return div64_u64(get_cycles() - since, count);
}

/* What kmem_cache takes for the same, to compare. */
static int __init compare(struct object **all)
{
	struct kmem_cache *cache = kmem_cache_create("test_objects", 64, 64, 0, NULL);
	u64 start, made;
	bool ok = true;

	if (!cache)
		return -ENOMEM;
	start = get_cycles();
	for (u64 i = 0; i < count; i++) {
		all[i] = kmem_cache_zalloc(cache, GFP_KERNEL);
		if (!all[i])
			ok = false;
	}
	made = each(start);
	start = get_cycles();
	for (u64 i = 0; i < count; i++)
		if (all[i])
			kmem_cache_free(cache, all[i]);
	pr_info("kmem_cache: ticks an object: %llu to allocate, %llu to free\n", made, each(start));
	kmem_cache_destroy(cache);
	return ok ? 0 : -ENOMEM;
}

static int __init make(struct object **all)
{
	u64 start, made, value;

	objects = kho_slab_create(NAME, sizeof(struct object), 64, NULL);
	numbers = kho_array_create(NAME);
	if (IS_ERR(objects) || IS_ERR(numbers))
		return -ENOMEM;
	start = get_cycles();
	for (u64 i = 0; i < count; i++) {
		all[i] = kho_slab_alloc(objects);
		if (!all[i])
			return -ENOMEM;
	}
	made = each(start);
	start = get_cycles();
	for (u64 i = 0; i < count; i++)
		if (kho_slab_free(objects, all[i]))
			return -EINVAL;
	pr_info("slab: ticks an object: %llu to allocate, %llu to free\n", made, each(start));
	for (u64 i = 0; i < count; i++) {
		all[i] = kho_slab_alloc(objects);
		if (!all[i])
			return -ENOMEM;
		if (!is_zero(all[i]))
			return -EIO;
		fill(all[i], i);
		cond_resched();
	}
	start = get_cycles();
	for (u64 i = 0; i < count; i++)
		if (kho_array_set(numbers, INDEX(i), virt_to_phys(all[i])) != 0)
			return -EINVAL;
	made = each(start);
	start = get_cycles();
	for (u64 i = 0; i < count; i++)
		if (!kho_array_get(numbers, INDEX(i), &value) || value != virt_to_phys(all[i]))
			return -EINVAL;
	pr_info("array: ticks a value: %llu to set, %llu to get\n", made, each(start));
	return 0;
}

/* Verifies everything that is there, and finds out which round it is of. */
static int verify(void)
{
	u64 index = 0, value, seen = 0, position = 0;
	struct object *object;

	if (kho_slab_count(objects) != count || kho_array_count(numbers) != count)
		return -EINVAL;
	for (; kho_array_next(numbers, &index, U64_MAX, &value); index++, seen++) {
		u64 place, of;

		object = kho_slab_object(objects, value);
		if (!object || !is_good(object))
			return -EINVAL;
		of = div64_u64_rem(object->number, count, &place);
		if (!seen)
			rounds = of;
		if (INDEX(place) != index || of != (place % 3 ? 0 : rounds))
			return -EINVAL;
		cond_resched();
	}
	if (seen != count)
		return -ENOENT;
	for (seen = 0; (object = kho_slab_next(objects, &position)); seen++)
		if (!is_good(object))
			return -EINVAL;
	return seen == count ? 0 : -ENOENT;
}

/* Frees an object, or has kmalloc() take it over first. */
static int drop(u64 place, bool load)
{
	struct object *copy;
	bool good;

	if (!load)
		return kho_slab_free(objects, kho_slab_object(objects, place));
	copy = kho_slab_load(objects, place, GFP_KERNEL);
	if (IS_ERR(copy))
		return PTR_ERR(copy);
	good = is_good(copy) && !kho_slab_object(objects, place);
	kfree(copy);
	return good ? 0 : -EINVAL;
}

/* Makes an object, or saves @copy, which is kmalloc()'s. */
static u64 add(u64 number, struct object *copy)
{
	struct object *object;

	if (copy) {
		fill(copy, number);
		return kho_slab_save(objects, copy, sizeof(*copy));
	}
	object = kho_slab_alloc(objects);
	if (!object || !is_zero(object))
		return 0;
	fill(object, number);
	return kho_slab_phys(objects, object);
}

/* Some go, and others come in their place; half of them by way of kmalloc(). */
static int change(void)
{
	struct object *copy;
	int err = 0;
	u64 value;

	for (u64 i = 0; i < count; i += 3) {
		if (!kho_array_get(numbers, INDEX(i), &value) || drop(value, i % 2) ||
		    !kho_array_clear(numbers, INDEX(i)))
			return -EINVAL;
		cond_resched();
	}
	copy = kmalloc(sizeof(*copy), GFP_KERNEL);
	if (!copy)
		return -ENOMEM;
	rounds++;
	for (u64 i = 0; i < count && !err; i += 3) {
		value = add(rounds * count + i, i % 2 ? copy : NULL);
		if (!value || kho_array_set(numbers, INDEX(i), value))
			err = -EINVAL;
		cond_resched();
	}
	kfree(copy);
	return err;
}

static int __init resume(u64 start)
{
	u64 attached = get_cycles() - start, took;
	int err;

	start = get_cycles();
	numbers = kho_array_attach(NAME);
	if (IS_ERR(numbers))
		return PTR_ERR(numbers);
	took = get_cycles() - start;
	pr_info("attached %llu objects in %llu ticks, %llu values in %llu ticks\n",
		kho_slab_count(objects), attached, kho_array_count(numbers), took);
	err = verify();
	if (err)
		return err;
	pr_info("all are of round %llu\n", rounds);
	return change();
}

static int set_change(const char *text, const struct kernel_param *param)
{
	int err;

	if (IS_ERR_OR_NULL(objects) || IS_ERR_OR_NULL(numbers))
		return -ENOENT;
	err = verify() ?: change();
	pr_info("changed to round %llu: %d\n", rounds, err);
	return err;
}

/* One writer at a time: parameters have a lock. */
static const struct kernel_param_ops change_ops = { .set = set_change };
module_param_cb(change, &change_ops, NULL, 0200);

static int __init test_objects(void)
{
	struct object **all;
	u64 start;
	int err;

	if (!count)
		return 0;
	/* It is unpacked by a thread, which would run in between. */
	wait_for_initramfs();
	start = get_cycles();
	objects = kho_slab_attach(NAME, sizeof(struct object), 64, NULL);
	if (!IS_ERR(objects)) {
		err = resume(start);
		pr_info("resumed: %d\n", err);
		return 0;
	}
	if (PTR_ERR(objects) != -ENOENT) {
		pr_err("attach: %ld\n", PTR_ERR(objects));
		return 0;
	}
	all = vmalloc_array(count, sizeof(*all));
	err = all ? compare(all) ?: make(all) : -ENOMEM;
	vfree(all);
	pr_info("made %lu: %d\n", count, err);
	return 0;
}
late_initcall(test_objects);
