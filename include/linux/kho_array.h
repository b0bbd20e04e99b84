/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Preserved sparse arrays: 64-bit values by 64-bit index, which live through a live update where they
 * are.
 *
 * All functions may sleep, and any number of threads may call them at the same time.
 */
#ifndef _LINUX_KHO_ARRAY_H
#define _LINUX_KHO_ARRAY_H

#ifndef __BINDGEN__
#include <linux/types.h>
#endif

struct kho_array;

/**
 * kho_array_create - make an array without values
 * @name: as for kho_slab_create()
 *
 * Return: the array or an ERR_PTR: -EINVAL, also while KHO is off, -EEXIST for a name in use, -ENOMEM.
 */
struct kho_array *kho_array_create(const char *name);

/**
 * kho_array_attach - take over an array of the previous kernel by its name
 *
 * Return: the array or an ERR_PTR: -ENOENT if there is none of that name; -EINVAL if it is damaged; -EIO
 * if some of its memory has gone bad; -ENOMEM, and it may be tried again. What is not taken over stays
 * preserved, out of use.
 */
struct kho_array *kho_array_attach(const char *name);

/* Takes over an array that has no name, by the handle it had. */
struct kho_array *kho_array_attach_at(u64 handle);

/* Frees an array; an ERR_PTR or NULL is none. */
void kho_array_destroy(struct kho_array *array);

/**
 * kho_array_set - set a value
 *
 * Return: 1 if it takes the place of another, 0 if there was none, -ENOMEM; nothing has changed then.
 */
int kho_array_set(struct kho_array *array, u64 index, u64 value);

/* Whether there is a value at an index; it is written to @value. */
bool kho_array_get(struct kho_array *array, u64 index, u64 *value);

/* Takes out a value; false if there was none. Pages that get empty are given back. */
bool kho_array_clear(struct kho_array *array, u64 index);

/* Takes out all values from index @first to @last. */
void kho_array_clear_range(struct kho_array *array, u64 first, u64 last);

/**
 * kho_array_next - find the first value at @index or behind it, up to @last
 *
 * Return: true, with its index and the value written to @index and @value; false if there is none.
 */
bool kho_array_next(struct kho_array *array, u64 *index, u64 last, u64 *value);

/* What kho_array_attach_at() finds an array without a name by. */
u64 kho_array_handle(struct kho_array *array);

/* How many values there are. */
u64 kho_array_count(struct kho_array *array);

#endif
