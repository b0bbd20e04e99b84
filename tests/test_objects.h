/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the objects of the tests are: a number, and words that follow from it.
 */
#ifndef _TEST_OBJECTS_H
#define _TEST_OBJECTS_H

#include <linux/array_size.h>
#include <linux/string.h>
#include <linux/types.h>

struct object {
	u64 number;
	u64 words[7];
};

static inline u64 word(u64 number, unsigned int i)
{
	return (number + 1) * 0x9e3779b97f4a7c15ULL + i;
}

static inline void fill(struct object *object, u64 number)
{
	object->number = number;
	for (int i = 0; i < ARRAY_SIZE(object->words); i++)
		object->words[i] = word(number, i);
}

static inline bool is_good(const struct object *object)
{
	for (int i = 0; i < ARRAY_SIZE(object->words); i++)
		if (object->words[i] != word(object->number, i))
			return false;
	return true;
}

static inline bool is_zero(const struct object *object)
{
	return !memchr_inv(object, 0, sizeof(*object));
}

#endif
