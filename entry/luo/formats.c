// SPDX-License-Identifier: GPL-2.0
/*
 * Formats: the image that a kexec would boot, and
 * /sys/kernel/liveupdate/formats/NAME/VERSION, a folder for each format.
 */
#include <linux/init.h>
#include <linux/kexec.h>
#include <linux/kobject.h>
#include <linux/kstrtox.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/uaccess.h>

#include "../../sys/c/glue.h"

/*
 * What a kexec would boot: its address, or 0; and whether KHO has put into it where the handover
 * is. Called without kexec_lock: taking it would make a concurrent kexec_file_load() fail with
 * -EBUSY. The image may be freed meanwhile, so the answer can be stale; reboot asks again with the
 * lock held.
 */
unsigned long lu_loaded_image(bool *handed)
{
	struct kimage *image = READ_ONCE(kexec_image);
	phys_addr_t fdt = 0;

	if (image && copy_from_kernel_nofault(&fdt, &image->kho.fdt, sizeof(fdt)))
		fdt = 0;
	*handed = fdt;
	return (unsigned long)image;
}

static int __init parse_unknown(char *arg)
{
	if (arg && !strcmp(arg, "mainline"))
		return lu_parse_unknown(true);
	if (arg && !strcmp(arg, "refuse"))
		return lu_parse_unknown(false);
	pr_err("liveupdate.unknown= is either mainline or refuse; ignored\n");
	return -EINVAL;
}
early_param("liveupdate.unknown", parse_unknown);

static int __init parse_audit(char *arg)
{
	bool on;
	int err = kstrtobool(arg, &on);

	return err ?: lu_parse_audit(on);
}
early_param("liveupdate.audit", parse_audit);

static char hidden[128];

static int __init parse_hide(char *arg)
{
	if (!arg || strscpy(hidden, arg) < 0) {
		pr_err("liveupdate.hide= is a list such as memfd:3,name:1; ignored\n");
		hidden[0] = '\0';
		return -EINVAL;
	}
	return 0;
}
early_param("liveupdate.hide", parse_hide);

const char *lu_hidden_formats(void)
{
	return hidden;
}

/* A folder for each name, and in it one for each version. */
struct family {
	struct list_head link;
	struct kobject *folder;
	unsigned int versions;
	char name[48];
};

struct version {
	struct kobject kobj;
	struct list_head link;
	struct family *family;
	u32 number;
};

static struct kobject *formats;
static LIST_HEAD(families);
static LIST_HEAD(versions);
static DEFINE_MUTEX(folders);

static ssize_t show(struct kobject *kobj, unsigned int what, char *buf)
{
	struct version *version = container_of(kobj, struct version, kobj);
	long value = lu_format_attribute(version->family->name, version->number, what);

	return value < 0 ? value : sysfs_emit(buf, "%ld\n", value);
}

#define LU_FORMAT_ATTRIBUTE(_name, _what)						\
static ssize_t _name##_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)	\
{											\
	return show(kobj, _what, buf);							\
}

LU_FORMAT_ATTRIBUTE(read, LU_FORMAT_READ)
LU_FORMAT_ATTRIBUTE(write, LU_FORMAT_WRITE)
LU_FORMAT_ATTRIBUTE(enable_write, LU_FORMAT_ENABLED)
LU_FORMAT_ATTRIBUTE(users, LU_FORMAT_USERS)

static ssize_t enable_write_store(struct kobject *kobj, struct kobj_attribute *attr,
				  const char *buf, size_t len)
{
	struct version *version = container_of(kobj, struct version, kobj);
	bool on;
	int err = kstrtobool(buf, &on);

	if (!err)
		err = lu_format_enable(version->family->name, version->number, on);
	return err ?: len;
}

static struct kobj_attribute read_attr = __ATTR_RO(read);
static struct kobj_attribute write_attr = __ATTR_RO(write);
static struct kobj_attribute enable_write_attr = __ATTR_RW(enable_write);
static struct kobj_attribute users_attr = __ATTR_RO(users);

static struct attribute *version_attrs[] = {
	&read_attr.attr,
	&write_attr.attr,
	&enable_write_attr.attr,
	&users_attr.attr,
	NULL,
};
ATTRIBUTE_GROUPS(version);

static void put_family(struct family *family)
{
	if (--family->versions)
		return;
	list_del(&family->link);
	kobject_put(family->folder);
	kfree(family);
}

static void version_release(struct kobject *kobj)
{
	kfree(container_of(kobj, struct version, kobj));
}

static const struct kobj_type version_type = {
	.release = version_release,
	.sysfs_ops = &kobj_sysfs_ops,
	.default_groups = version_groups,
};

static struct version *find(const char *name, u32 number)
{
	struct version *version;

	list_for_each_entry(version, &versions, link)
		if (version->number == number && !strcmp(version->family->name, name))
			return version;
	return NULL;
}

static struct family *get_family(const char *name)
{
	struct family *family;

	list_for_each_entry(family, &families, link) {
		if (!strcmp(family->name, name)) {
			family->versions++;
			return family;
		}
	}
	family = kzalloc_obj(*family);
	if (!family)
		return NULL;
	strscpy(family->name, name);
	family->folder = kobject_create_and_add(name, formats);
	if (!family->folder) {
		kfree(family);
		return NULL;
	}
	family->versions = 1;
	list_add(&family->link, &families);
	return family;
}

/* Makes the folder of a format, unless it is there. Names are such as a folder may have. */
int lu_format_show(const char *name, u32 number)
{
	struct version *version;
	struct family *family;
	int err;

	guard(mutex)(&folders);
	if (!formats)
		return -ENODEV;
	if (find(name, number))
		return 0;
	version = kzalloc_obj(*version);
	if (!version)
		return -ENOMEM;
	family = get_family(name);
	if (!family) {
		kfree(version);
		return -ENOMEM;
	}
	version->family = family;
	version->number = number;
	err = kobject_init_and_add(&version->kobj, &version_type, family->folder, "%u", number);
	if (err) {
		kobject_put(&version->kobj);
		put_family(family);
		return err;
	}
	list_add(&version->link, &versions);
	return 0;
}

/* Removes the folder of a format; waits for those who read it. */
void lu_format_hide(const char *name, u32 number)
{
	struct version *version;

	guard(mutex)(&folders);
	version = find(name, number);
	if (!version)
		return;
	list_del(&version->link);
	kobject_del(&version->kobj);
	put_family(version->family);
	kobject_put(&version->kobj);
}

/* The folder of formats, in that of live updates. */
int lu_formats_folder(struct kobject *parent)
{
	formats = kobject_create_and_add("formats", parent);
	return formats ? 0 : -ENOMEM;
}
