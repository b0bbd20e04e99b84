// SPDX-License-Identifier: GPL-2.0
/*
 * What the orchestrator needs of C: command-line arguments, initcalls, exports, the gate between
 * operating and frozen, and modules.
 */
#include <linux/export.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/kstrtox.h>
#include <linux/liveupdate.h>
#include <linux/liveupdate_arrival.h>
#include <linux/module.h>
#include <linux/rwsem.h>
#include <linux/string.h>

#include "../../../luo_internal.h"
#include "../../sys/c/glue.h"

static int __init parse_liveupdate(char *arg)
{
	bool on;
	int err = kstrtobool(arg, &on);

	return err ?: lu_parse_liveupdate(on);
}
early_param("liveupdate", parse_liveupdate);

static int __init parse_on_error(char *arg)
{
	if (arg && !strcmp(arg, "panic"))
		return lu_parse_on_error(true);
	if (arg && !strcmp(arg, "continue"))
		return lu_parse_on_error(false);
	pr_err("liveupdate.on_error= is either panic or continue; ignored\n");
	return -EINVAL;
}
early_param("liveupdate.on_error", parse_on_error);

static int __init start(void)
{
	return lu_luo_start();
}
early_initcall(start);

static int __init publish(void)
{
	return lu_luo_publish();
}
late_initcall(publish);

void lu_panic(const char *why)
{
	panic("%s", why);
}

/* Readers operate, the writer freezes. Whoever reads /sys/kernel/liveupdate does without it. */
static DECLARE_RWSEM(gate);

int lu_gate_enter(void)
{
	return down_read_killable(&gate);
}

void lu_gate_enter_always(void)
{
	down_read(&gate);
}

void lu_gate_leave(void)
{
	up_read(&gate);
}

void lu_gate_close(void)
{
	down_write(&gate);
}

void lu_gate_open(void)
{
	up_write(&gate);
}

bool lu_module_get(struct module *module)
{
	return try_module_get(module);
}

void lu_module_keep(struct module *module)
{
	__module_get(module);
}

void lu_module_put(struct module *module)
{
	module_put(module);
}

u64 lu_file_bytes(const struct file *file)
{
	return i_size_read(file_inode(file));
}

/* Once for each FLB: its driver zeroed it, and anybody may be the first to use it. */
void lu_flb_init(struct liveupdate_flb *flb)
{
	static DEFINE_MUTEX(initialising);
	struct luo_flb_private *state = &ACCESS_PRIVATE(flb, private);

	if (smp_load_acquire(&state->initialized))
		return;
	mutex_lock(&initialising);
	if (!state->initialized) {
		static struct lock_class_key out, in;

		__mutex_init(&state->outgoing.lock, "luo_flb_outgoing", &out);
		__mutex_init(&state->incoming.lock, "luo_flb_incoming", &in);
		INIT_LIST_HEAD(&state->list);
		smp_store_release(&state->initialized, true);
	}
	mutex_unlock(&initialising);
}

/* lib/tests/liveupdate.c, if it is built. */
void lu_test_register(struct liveupdate_file_handler *handler)
{
	liveupdate_test_register(handler);
}

EXPORT_SYMBOL_GPL(liveupdate_enabled);
EXPORT_SYMBOL_GPL(liveupdate_register_file_handler);
EXPORT_SYMBOL_GPL(liveupdate_unregister_file_handler);
EXPORT_SYMBOL_GPL(liveupdate_register_flb);
EXPORT_SYMBOL_GPL(liveupdate_unregister_flb);
EXPORT_SYMBOL_GPL(liveupdate_flb_get_incoming);
EXPORT_SYMBOL_GPL(liveupdate_flb_put_incoming);
EXPORT_SYMBOL_GPL(liveupdate_flb_get_outgoing);
EXPORT_SYMBOL_GPL(liveupdate_flb_put_outgoing);
EXPORT_SYMBOL_GPL(liveupdate_file_is_preserved);
EXPORT_SYMBOL_GPL(liveupdate_arrival);
EXPORT_SYMBOL_GPL(liveupdate_flb_arrival);
