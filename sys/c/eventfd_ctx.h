/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a live update does inside of an eventfd. fs/eventfd.c includes it, and nobody else: only
 * there is it known what an eventfd is made of.
 */
#ifndef _LIVEUPDATE_EVENTFD_CTX_H
#define _LIVEUPDATE_EVENTFD_CTX_H

#include <linux/io.h>

#include "glue.h"

bool lu_eventfd_is_ours(const struct file *file)
{
	return file->f_op == &eventfd_fops;
}

bool lu_eventfd_semaphore(const struct file *file)
{
	const struct eventfd_ctx *ctx = file->private_data;

	return ctx->flags & EFD_SEMAPHORE;
}

bool lu_eventfd_nonblocking(const struct file *file)
{
	return READ_ONCE(file->f_flags) & O_NONBLOCK;
}

/*
 * Whether something in the kernel takes the count as it is signalled, and the signal with it, as an
 * irqfd does: it waits in front of everybody else.
 */
bool lu_eventfd_attached(const struct file *file)
{
	struct eventfd_ctx *ctx = file->private_data;
	wait_queue_entry_t *first;
	bool attached;

	spin_lock_irq(&ctx->wqh.lock);
	first = list_first_entry_or_null(&ctx->wqh.head, wait_queue_entry_t, entry);
	attached = first && first->flags & WQ_FLAG_PRIORITY;
	spin_unlock_irq(&ctx->wqh.lock);
	return attached;
}

/*
 * Has the count written to @at, now and whenever it changes.
 *
 * Return: 0, or -EBUSY if it is written somewhere already.
 */
int lu_eventfd_keep(struct file *file, u64 at)
{
	struct eventfd_ctx *ctx = file->private_data;
	int err = -EBUSY;

	spin_lock_irq(&ctx->wqh.lock);
	if (!ctx->kept) {
		ctx->kept = phys_to_virt(at);
		lu_eventfd_changed(ctx);
		err = 0;
	}
	spin_unlock_irq(&ctx->wqh.lock);
	return err;
}

void lu_eventfd_unkeep(struct file *file)
{
	struct eventfd_ctx *ctx = file->private_data;

	spin_lock_irq(&ctx->wqh.lock);
	ctx->kept = NULL;
	spin_unlock_irq(&ctx->wqh.lock);
}

/*
 * An eventfd that is in no table of descriptors yet. Its count may be anything, ULLONG_MAX too,
 * which only the kernel's own signals lead to.
 */
struct file *lu_eventfd_create(u64 count, bool semaphore, bool nonblocking)
{
	int flags = O_RDWR | (nonblocking ? O_NONBLOCK : 0);
	struct eventfd_ctx *ctx = kmalloc_obj(*ctx);
	struct file *file;

	if (!ctx)
		return ERR_PTR(-ENOMEM);
	kref_init(&ctx->kref);
	init_waitqueue_head(&ctx->wqh);
	ctx->count = count;
	ctx->flags = (semaphore ? EFD_SEMAPHORE : 0) | (nonblocking ? EFD_NONBLOCK : 0);
	ctx->kept = NULL;
	/* Without a number it is one all the same. */
	ctx->id = ida_alloc(&eventfd_ida, GFP_KERNEL);
	file = anon_inode_getfile_fmode("[eventfd]", &eventfd_fops, ctx, flags, FMODE_NOWAIT);
	if (IS_ERR(file))
		eventfd_free_ctx(ctx);
	return file;
}

#endif
