// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/kernel/liveupdate: what an operator can see of live update without asking for it.
 */
#include <linux/init.h>
#include <linux/kobject.h>
#include <linux/sysfs.h>

#include "../../sys/c/glue.h"

static ssize_t show(char *buf, unsigned int what)
{
	size_t len = lu_luo_show(what, buf, PAGE_SIZE - 1);

	buf[len] = '\n';
	return len + 1;
}

/* Names of sessions are not for everybody. */
#define LU_ATTRIBUTE(_name, _what, _mode)						\
static ssize_t _name##_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)	\
{											\
	return show(buf, _what);							\
}											\
static struct kobj_attribute _name##_attr = __ATTR_RO_MODE(_name, _mode)

LU_ATTRIBUTE(enabled, LU_SHOW_ENABLED, 0444);
LU_ATTRIBUTE(state, LU_SHOW_STATE, 0444);
LU_ATTRIBUTE(update_number, LU_SHOW_NUMBER, 0444);
LU_ATTRIBUTE(previous_release, LU_SHOW_PREVIOUS, 0444);
LU_ATTRIBUTE(last_error, LU_SHOW_LAST_ERROR, 0400);
LU_ATTRIBUTE(loaded_image, LU_SHOW_LOADED, 0444);
LU_ATTRIBUTE(arrived_formats, LU_SHOW_ARRIVED, 0444);
LU_ATTRIBUTE(arrival, LU_SHOW_ARRIVAL, 0444);

static ssize_t sessions_read(struct file *file, struct kobject *kobj,
			     const struct bin_attribute *attr, char *buf, loff_t offset,
			     size_t len)
{
	return lu_luo_sessions(offset, buf, len);
}

static const struct bin_attribute sessions_attr =
	__BIN_ATTR(sessions, 0400, sessions_read, NULL, 0);

static struct attribute *attributes[] = {
	&enabled_attr.attr,
	&state_attr.attr,
	&update_number_attr.attr,
	&previous_release_attr.attr,
	&last_error_attr.attr,
	&loaded_image_attr.attr,
	&arrived_formats_attr.attr,
	&arrival_attr.attr,
	NULL,
};

static const struct bin_attribute *const bin_attributes[] = {
	&sessions_attr,
	NULL,
};

static const struct attribute_group group = {
	.attrs = attributes,
	.bin_attrs = bin_attributes,
};

static int __init luo_sysfs(void)
{
	struct kobject *folder = kobject_create_and_add("liveupdate", kernel_kobj);
	int err;

	if (!folder)
		return -ENOMEM;
	err = sysfs_create_group(folder, &group) ?: lu_formats_folder(folder);
	if (err)
		kobject_put(folder);
	return err;
}
subsys_initcall(luo_sysfs);
