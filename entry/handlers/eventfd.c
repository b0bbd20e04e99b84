// SPDX-License-Identifier: GPL-2.0
/*
 * eventfds: registers their handler with the live update orchestrator. What it does is in Rust, and
 * what has to be done inside of an eventfd in eventfd_ctx.h.
 */
#define pr_fmt(fmt) "eventfd: " fmt

#include <linux/init.h>
#include <linux/liveupdate.h>
#include <linux/module.h>
#include <linux/printk.h>

#include "../../sys/c/glue.h"

static bool can_preserve(struct liveupdate_file_handler *handler, struct file *file)
{
	return lu_eventfd_is_ours(file);
}

static int preserve(struct liveupdate_file_op_args *args)
{
	return lu_eventfd_preserve(args->file, &args->serialized_data);
}

static void unpreserve(struct liveupdate_file_op_args *args)
{
	lu_eventfd_unpreserve(args->file, args->serialized_data);
}

static int freeze(struct liveupdate_file_op_args *args)
{
	return lu_eventfd_freeze(args->file, args->serialized_data);
}

static int retrieve(struct liveupdate_file_op_args *args)
{
	return lu_eventfd_retrieve(args->serialized_data, &args->file);
}

static void finish(struct liveupdate_file_op_args *args)
{
	/* A retrieve that failed has left everything as it was. */
	if (args->retrieve_status <= 0)
		lu_eventfd_discard(args->serialized_data);
}

static const struct liveupdate_file_ops ops = {
	.can_preserve = can_preserve,
	.preserve = preserve,
	.unpreserve = unpreserve,
	.freeze = freeze,
	.retrieve = retrieve,
	.finish = finish,
	.owner = THIS_MODULE,
};

static struct liveupdate_file_handler handler = {
	.ops = &ops,
	.compatible = "eventfd-v1",
};

static int __init init(void)
{
	int err = liveupdate_register_file_handler(&handler);

	/* Live updates may be off. */
	if (err && err != -EOPNOTSUPP)
		pr_err("cannot register with the live update orchestrator: %d\n", err);
	return err == -EOPNOTSUPP ? 0 : err;
}
late_initcall(init);
