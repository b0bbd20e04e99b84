// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit: an eventfd whose count is taken as it is signalled, as KVM's irqfds do, is not handed
 * over.
 */
#include <kunit/test.h>

#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/poll.h>
#include <linux/wait.h>

#include "../sys/c/glue.h"

/* One that takes what is signalled. */
struct taker {
	poll_table table;
	wait_queue_entry_t wait;
	wait_queue_head_t *head;
	struct eventfd_ctx *ctx;
	u64 taken;
};

static int take(wait_queue_entry_t *wait, unsigned int mode, int sync, void *key)
{
	struct taker *taker = container_of(wait, struct taker, wait);
	u64 count;

	if (key_to_poll(key) & EPOLLIN) {
		eventfd_ctx_do_read(taker->ctx, &count);
		taker->taken += count;
	}
	return 0;
}

static void attach(struct file *file, wait_queue_head_t *head, poll_table *table)
{
	struct taker *taker = container_of(table, struct taker, table);

	taker->head = head;
	add_wait_queue_priority(head, &taker->wait);
}

static void attached(struct kunit *test)
{
	struct file *file = lu_eventfd_create(0, false, false);
	struct taker taker = {};
	u64 data;

	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	taker.ctx = eventfd_ctx_fileget(file);
	init_waitqueue_func_entry(&taker.wait, take);
	init_poll_funcptr(&taker.table, attach);
	KUNIT_EXPECT_FALSE(test, lu_eventfd_attached(file));

	vfs_poll(file, &taker.table);
	eventfd_signal(taker.ctx);
	KUNIT_EXPECT_EQ(test, taker.taken, 1);
	KUNIT_EXPECT_TRUE(test, lu_eventfd_attached(file));
	KUNIT_EXPECT_EQ(test, lu_eventfd_preserve(file, &data), -EBUSY);

	remove_wait_queue(taker.head, &taker.wait);
	KUNIT_EXPECT_FALSE(test, lu_eventfd_attached(file));
	KUNIT_ASSERT_EQ(test, lu_eventfd_preserve(file, &data), 0);
	KUNIT_EXPECT_EQ(test, lu_eventfd_freeze(file, data), 0);

	/* Attached after it was preserved. */
	vfs_poll(file, &taker.table);
	KUNIT_EXPECT_EQ(test, lu_eventfd_freeze(file, data), -EBUSY);
	remove_wait_queue(taker.head, &taker.wait);
	KUNIT_EXPECT_EQ(test, lu_eventfd_freeze(file, data), 0);

	lu_eventfd_unpreserve(file, data);
	eventfd_ctx_put(taker.ctx);
	fput(file);
}

static struct kunit_case cases[] = {
	KUNIT_CASE(attached),
	{}
};

static struct kunit_suite suite = {
	.name = "liveupdate_eventfd",
	.test_cases = cases,
};
kunit_test_suite(suite);
