/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Preserved sparse arrays: 64-bit values by 64-bit index, which live through a live update where
 * they are.
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
 * kho_array_create() - Make an array without values.
 * @name: As for kho_slab_create().
 *
 * Return: The array, or an ERR_PTR: -EINVAL for a wrong name and while KHO is off, -EEXIST for a
 * name in use, -ENOMEM.
 */
struct kho_array *kho_array_create(const char *name);

/**
 * kho_array_attach() - Take over an array of the previous kernel by its name.
 * @name: The name it was created with.
 *
 * An array that is not taken over stays preserved and reserved.
 *
 * Return: The array, or an ERR_PTR: -ENOENT if there is none of that name; -EINVAL if it is
 * damaged; -EIO if some of its memory has gone bad; -ENOMEM, after which it may be tried again.
 */
struct kho_array *kho_array_attach(const char *name);

/**
 * kho_array_attach_at() - Take over an array that has no name.
 * @handle: What kho_array_handle() returned in the previous kernel.
 *
 * Return: As for kho_array_attach().
 */
struct kho_array *kho_array_attach_at(u64 handle);

/**
 * kho_array_destroy() - Free an array and all its values.
 * @array: The array; an ERR_PTR or NULL is none.
 */
void kho_array_destroy(struct kho_array *array);

/**
 * kho_array_set() - Set a value.
 * @array: The array.
 * @index: Where.
 * @value: What.
 *
 * Return: 1 if there was a value, which has been replaced; 0 if there was none; -ENOMEM, and
 * nothing has changed then.
 */
int kho_array_set(struct kho_array *array, u64 index, u64 value);

/**
 * kho_array_get() - Get a value.
 * @array: The array.
 * @index: Where.
 * @value: Where the value is written to, if there is one.
 *
 * Return: Whether there is a value at @index.
 */
bool kho_array_get(struct kho_array *array, u64 index, u64 *value);

/**
 * kho_array_clear() - Take out a value.
 * @array: The array.
 * @index: Where.
 *
 * Pages that get empty are given back.
 *
 * Return: Whether there was a value.
 */
bool kho_array_clear(struct kho_array *array, u64 index);

/**
 * kho_array_clear_range() - Take out all values of a range.
 * @array: The array.
 * @first: The first index of the range.
 * @last: The last index of the range.
 */
void kho_array_clear_range(struct kho_array *array, u64 first, u64 last);

/**
 * kho_array_next() - Find the first value of a range.
 * @array: The array.
 * @index: The first index to look at; set to that of the value that is found.
 * @last: The last index to look at.
 * @value: Where the value is written to.
 *
 * Return: Whether there is one.
 */
bool kho_array_next(struct kho_array *array, u64 *index, u64 last, u64 *value);

/**
 * kho_array_handle() - Give the number by which kho_array_attach_at() finds an array without a
 * name. @array: The array.
 *
 * Return: The handle, which the owner hands over in bytes of its own.
 */
u64 kho_array_handle(struct kho_array *array);

/**
 * kho_array_count() - Count the values.
 * @array: The array.
 *
 * Return: Their number.
 */
u64 kho_array_count(struct kho_array *array);

#endif
