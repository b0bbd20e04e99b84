// SPDX-License-Identifier: GPL-2.0
/*
 * Entry points that only C can declare: command-line arguments, initcalls, and exports.
 */
#include <linux/export.h>
#include <linux/init.h>
#include <linux/kexec_handover.h>
#include <linux/kho_radix_tree.h>
#include <linux/kstrtox.h>
#include <linux/moduleparam.h>
#include <linux/reboot.h>

#include "../../sys/c/glue.h"

static int __init parse_kho(char *arg)
{
	bool on;
	int err = kstrtobool(arg, &on);

	return err ?: lu_parse_enable(on);
}
early_param("kho", parse_kho);

static int __init parse_kho_scratch(char *arg)
{
	return arg ? lu_parse_scratch(arg) : -EINVAL;
}
early_param("kho_scratch", parse_kho_scratch);

/*
 * Once deferred struct pages are initialised, free the gaps that were reserved only because the
 * boot-time list is coarse.
 */
static int __init settle(void)
{
	return lu_settle();
}
core_initcall(settle);

/*
 * Last of all before the kexec: whoever serialises has done so. What comes after it, the shutdown
 * of devices and of the system's core, may leave no timer to sleep by.
 */
static int reboot(struct notifier_block *nb, unsigned long action, void *data)
{
	lu_reboot();
	return NOTIFY_DONE;
}

static struct notifier_block reboot_nb = { .notifier_call = reboot, .priority = INT_MIN };

static int __init init(void)
{
	register_reboot_notifier(&reboot_nb);
	return lu_init();
}
fs_initcall(init);

/*
 * What mm/memblock.c hands over for reserve_mem=. That file stays as it is, so its format is
 * declared here; the other formats are declared where their code is.
 */
MODULE_INFO(liveupdate_format, "memblock:1:rw");

EXPORT_SYMBOL_GPL(kho_is_enabled);
EXPORT_SYMBOL_GPL(is_kho_boot);
EXPORT_SYMBOL_GPL(kho_preserve_folio);
EXPORT_SYMBOL_GPL(kho_unpreserve_folio);
EXPORT_SYMBOL_GPL(kho_preserve_pages);
EXPORT_SYMBOL_GPL(kho_unpreserve_pages);
EXPORT_SYMBOL_GPL(kho_preserve_vmalloc);
EXPORT_SYMBOL_GPL(kho_unpreserve_vmalloc);
EXPORT_SYMBOL_GPL(kho_alloc_preserve);
EXPORT_SYMBOL_GPL(kho_unpreserve_free);
EXPORT_SYMBOL_GPL(kho_restore_free);
EXPORT_SYMBOL_GPL(kho_restore_folio);
EXPORT_SYMBOL_GPL(kho_restore_pages);
EXPORT_SYMBOL_GPL(kho_restore_vmalloc);
EXPORT_SYMBOL_GPL(kho_add_subtree);
EXPORT_SYMBOL_GPL(kho_remove_subtree);
EXPORT_SYMBOL_GPL(kho_retrieve_subtree);
EXPORT_SYMBOL_GPL(kho_radix_add_key);
EXPORT_SYMBOL_GPL(kho_radix_del_key);
EXPORT_SYMBOL_GPL(kho_radix_walk_tree);
EXPORT_SYMBOL_GPL(kho_radix_init_tree);
EXPORT_SYMBOL_GPL(kho_radix_destroy_tree);
