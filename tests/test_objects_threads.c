// SPDX-License-Identifier: GPL-2.0
/*
 * Uses one preserved slab cache, and an array, from many processors at the same time.
 *
 * A kernel booted with test_objects.threads=T attaches what it was handed and verifies it. Then T
 * threads allocate, fill, verify and free objects at random. They exchange them through slots, so
 * most are freed by another thread than they were allocated by. What is left is verified and handed
 * over.
 */
#define pr_fmt(fmt) "test_objects: " fmt

#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/init.h>
#include <linux/io.h>
#include <linux/kho_array.h>
#include <linux/kho_slab.h>
#include <linux/kthread.h>
#include <linux/memblock.h>
#include <linux/moduleparam.h>
#include <linux/prandom.h>
#include <linux/sched.h>
#include <linux/vmalloc.h>

#include "test_objects.h"

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "test_objects."

#define NAME "test.threads"
#define SLOTS 16384
#define STEPS 200000
/* A thread walks all objects after so many steps. */
#define WALK 20000
/* One object in so many is in the array while it lives. */
#define LISTED 8

static unsigned int threads;
module_param(threads, uint, 0);

static struct kho_slab *objects;
static struct kho_array *numbers;
static struct object **slots;
/* A bit for each place an object can be at, set while somebody owns it. */
static unsigned long *owned;
static u64 places;
/* The number of the next object. */
static atomic64_t next;
static atomic_t running;
static DECLARE_COMPLETION(all_ran);

struct tally {
	u64 allocated;
	u64 freed;
	u64 met;
	const char *wrong;
};

static struct tally *tallies;

static u64 place(struct object *object)
{
	return virt_to_phys(object) / sizeof(*object);
}

static bool is_listed(u64 number)
{
	return number % LISTED == 0;
}

/* Puts an object into the array. */
static bool list(struct object *object)
{
	return kho_array_set(numbers, object->number, virt_to_phys(object)) == 0;
}

static struct object *get(struct tally *tally)
{
	struct object *object = kho_slab_alloc(objects);

	if (!object) {
		tally->wrong = "there is no memory";
		return NULL;
	}
	if (place(object) >= places || test_and_set_bit(place(object), owned))
		tally->wrong = "an object was given out twice";
	else if (!is_zero(object))
		tally->wrong = "an object is not zero";
	fill(object, atomic64_inc_return(&next));
	if (is_listed(object->number) && !list(object))
		tally->wrong = "a value cannot be set";
	tally->allocated++;
	return object;
}

static void put(struct tally *tally, struct object *object)
{
	u64 value;

	if (!is_good(object)) {
		tally->wrong = "an object has changed";
		return;
	}
	if (kho_slab_object(objects, virt_to_phys(object)) != object)
		tally->wrong = "an object is not found by its address";
	if (is_listed(object->number) &&
	    (!kho_array_get(numbers, object->number, &value) || value != virt_to_phys(object) ||
	     !kho_array_clear(numbers, object->number)))
		tally->wrong = "a value is not what it was";
	if (!test_and_clear_bit(place(object), owned))
		tally->wrong = "an object belongs to nobody";
	if (kho_slab_free(objects, object))
		tally->wrong = "an object cannot be freed";
	tally->freed++;
}

/*
 * There are at most as many as there are slots, and one in the hands of each thread, and those that
 * come meanwhile.
 */
static void walk(struct tally *tally)
{
	u64 position = 0;

	while (kho_slab_next(objects, &position))
		if (++tally->met % 4096 == 0)
			cond_resched();
}

static int run(void *data)
{
	struct tally *tally = data;
	struct rnd_state random;

	prandom_seed_state(&random, tally - tallies + 1);
	for (unsigned int step = 0; step < STEPS && !tally->wrong; step++) {
		u32 choice = prandom_u32_state(&random);
		/* For a while there are more and more objects, then fewer and fewer. */
		bool more = choice >> 30 != 0;
		struct object *object = NULL;

		if (more == (step / 32768 % 2 == 0)) {
			object = get(tally);
			if (!object)
				break;
		}
		/*
		 * Whoever takes it out of the slot must see what was written into it: xchg()
		 * orders.
		 */
		object = xchg(&slots[choice % SLOTS], object);
		if (object)
			put(tally, object);
		if (step % WALK == WALK - 1)
			walk(tally);
		if (step % 64 == 0)
			cond_resched();
	}
	if (atomic_dec_and_test(&running))
		complete(&all_ran);
	return 0;
}

/* Takes what was handed over into the slots. */
static int __init take_over(void)
{
	u64 position = 0, index = 0, value, seen = 0;
	struct object *object;

	for (; (object = kho_slab_next(objects, &position)); seen++) {
		if (seen == SLOTS || !is_good(object))
			return -EINVAL;
		if (test_and_set_bit(place(object), owned))
			return -EEXIST;
		slots[seen] = object;
		if (object->number > atomic64_read(&next))
			atomic64_set(&next, object->number);
	}
	if (seen != kho_slab_count(objects) || seen != kho_array_count(numbers))
		return -ENOENT;
	for (; kho_array_next(numbers, &index, U64_MAX, &value); index++) {
		object = kho_slab_object(objects, value);
		if (!object || object->number != index)
			return -EINVAL;
		if (!is_listed(index) && !kho_array_clear(numbers, index))
			return -EINVAL;
	}
	pr_info("threads: %llu objects arrived\n", seen);
	return 0;
}

/* Everything agrees when nobody is at work. All that are left are in the array from then on. */
static int __init settle(void)
{
	u64 position = 0, walked = 0, kept = 0, marked = bitmap_weight(owned, places), value;
	struct object *object;

	for (; (object = kho_slab_next(objects, &position)); walked++)
		if (!is_good(object) || !test_bit(place(object), owned))
			return -EINVAL;
	for (unsigned int i = 0; i < SLOTS; i++) {
		object = slots[i];
		if (!object)
			continue;
		kept++;
		if (kho_slab_object(objects, virt_to_phys(object)) != object)
			return -ENOENT;
		if (is_listed(object->number) ?
		    !kho_array_get(numbers, object->number, &value) ||
		    value != virt_to_phys(object) :
		    !list(object))
			return -EINVAL;
	}
	pr_info("threads: %llu objects are left, %llu are met, %llu are owned, %llu are counted, %llu are in the array\n",
		kept, walked, marked, kho_slab_count(objects), kho_array_count(numbers));
	return kept && walked == kept && marked == kept && kho_slab_count(objects) == kept &&
	       kho_array_count(numbers) == kept ? 0 : -EINVAL;
}

static int __init play(void)
{
	int cpu = -1;
	struct tally sum = {};

	atomic_set(&running, threads);
	for (unsigned int i = 0; i < threads; i++) {
		struct task_struct *task = kthread_create(run, &tallies[i], "test_objects/%u", i);

		/*
		 * Those that run already are waited for by nobody: the test has failed, and the
		 * kernel has what they use.
		 */
		if (IS_ERR(task))
			return PTR_ERR(task);
		cpu = cpumask_next_wrap(cpu, cpu_online_mask);
		kthread_bind(task, cpu);
		wake_up_process(task);
	}
	wait_for_completion(&all_ran);
	for (unsigned int i = 0; i < threads; i++) {
		if (tallies[i].wrong)
			pr_err("threads: %u: %s\n", i, tallies[i].wrong);
		sum.wrong = sum.wrong ?: tallies[i].wrong;
		sum.allocated += tallies[i].allocated;
		sum.freed += tallies[i].freed;
		sum.met += tallies[i].met;
	}
	pr_info("threads: %u on %u processors: %llu allocated, %llu freed, %llu met\n", threads,
		num_online_cpus(), sum.allocated, sum.freed, sum.met);
	return sum.wrong ? -EIO : settle();
}

static int __init test_threads(void)
{
	int err;

	if (!threads)
		return 0;
	places = PFN_PHYS(max_pfn) / sizeof(struct object);
	slots = vcalloc(SLOTS, sizeof(*slots));
	owned = vzalloc(BITS_TO_LONGS(places) * sizeof(*owned));
	tallies = vcalloc(threads, sizeof(*tallies));
	if (!slots || !owned || !tallies) {
		pr_err("threads: there is no memory\n");
		return 0;
	}
	objects = kho_slab_attach(NAME, sizeof(struct object), 64, NULL);
	numbers = kho_array_attach(NAME);
	if (PTR_ERR_OR_ZERO(objects) == -ENOENT && PTR_ERR_OR_ZERO(numbers) == -ENOENT) {
		objects = kho_slab_create(NAME, sizeof(struct object), 64, NULL);
		numbers = kho_array_create(NAME);
		err = PTR_ERR_OR_ZERO(objects) ?: PTR_ERR_OR_ZERO(numbers);
	} else {
		err = PTR_ERR_OR_ZERO(objects) ?: PTR_ERR_OR_ZERO(numbers) ?: take_over();
	}
	err = err ?: play();
	pr_info("threads: %d\n", err);
	return 0;
}
late_initcall(test_threads);
