// SPDX-License-Identifier: GPL-2.0
/*
 * Writes and reads structs that are handed over by their tables, in the bytes that handover_struct!
 * has in Rust. Compiled into the kernel, and by itself for a test on the host.
 */
#ifdef __KERNEL__
#include <linux/errno.h>
#include <linux/export.h>
#include <linux/liveupdate_record.h>
#include <linux/string.h>
#else
#include <errno.h>
#include <string.h>
#include "liveupdate_record.h"
#define EXPORT_SYMBOL_GPL(_symbol)
#endif

#define FNV_START 0x811c9dc5u

static u32 mix(u32 sum, const void *bytes, size_t len)
{
	for (const u8 *at = bytes; len; at++, len--)
		sum = (sum ^ *at) * 0x01000193u;
	return sum;
}

static u32 mix_text(u32 sum, const char *text)
{
	return mix(sum, text, strlen(text));
}

static u32 mix_decimal(u32 sum, u32 number)
{
	u8 digits[10];
	size_t at = sizeof(digits);

	do {
		digits[--at] = '0' + number % 10;
		number /= 10;
	} while (number);
	return mix(sum, digits + at, sizeof(digits) - at);
}

/* Numbers, little-endian. */
static void put(u8 *to, u64 value, size_t size)
{
	for (size_t i = 0; i < size; i++)
		to[i] = value >> (8 * i);
}

static u64 get(const u8 *from, size_t size)
{
	u64 value = 0;

	for (size_t i = 0; i < size; i++)
		value |= (u64)from[i] << (8 * i);
	return value;
}

static u32 mix_number(u32 sum, u32 number)
{
	u8 bytes[4];

	put(bytes, number, sizeof(bytes));
	return mix(sum, bytes, sizeof(bytes));
}

static const char *const type_names[] = {
	[LU_TYPE_U8] = "u8",	[LU_TYPE_U16] = "u16",	  [LU_TYPE_U32] = "u32",
	[LU_TYPE_U64] = "u64",	[LU_TYPE_S8] = "i8",	  [LU_TYPE_S16] = "i16",
	[LU_TYPE_S32] = "i32",	[LU_TYPE_S64] = "i64",	  [LU_TYPE_BOOL] = "bool",
	[LU_TYPE_STRUCT] = "",	[LU_TYPE_PAGE] = "page(", [LU_TYPE_AREA] = "area(",
};

/* Bytes of a number in C and in a record, which are the same. */
static size_t number_size(enum lu_record_type type)
{
	switch (type) {
	case LU_TYPE_U8:
	case LU_TYPE_S8:
	case LU_TYPE_BOOL:
		return 1;
	case LU_TYPE_U16:
	case LU_TYPE_S16:
		return 2;
	case LU_TYPE_U32:
	case LU_TYPE_S32:
		return 4;
	default:
		return 8;
	}
}

/* Bytes of one element in a record. */
static size_t element_size(const struct lu_record_field *field)
{
	switch (field->type) {
	case LU_TYPE_STRUCT:
		return lu_record_size(field->other, field->other_version) - LU_RECORD_HEADER;
	case LU_TYPE_PAGE:
	case LU_TYPE_AREA:
		return 24;
	default:
		return number_size(field->type);
	}
}

static size_t field_size(const struct lu_record_field *field)
{
	return field->optional + element_size(field) * (field->count ? field->count : 1);
}

/**
 * lu_record_size - bytes of a record
 * @record: the struct's table.
 * @version: one of its versions.
 *
 * Return: the bytes, the header included.
 */
size_t lu_record_size(const struct lu_record *record, u32 version)
{
	size_t size = LU_RECORD_HEADER;

	for (size_t i = 0; i < record->nr_fields; i++) {
		if (record->fields[i].since <= version)
			size += field_size(&record->fields[i]);
	}
	return size;
}
EXPORT_SYMBOL_GPL(lu_record_size);

static u32 mix_type(u32 sum, const struct lu_record_field *field)
{
	sum = mix_text(sum, type_names[field->type]);
	if (field->type == LU_TYPE_STRUCT) {
		sum = mix_text(sum, field->other->name);
		sum = mix_decimal(mix_text(sum, "@"), field->other_version);
	} else if (field->type == LU_TYPE_PAGE || field->type == LU_TYPE_AREA) {
		sum = mix_text(mix_text(sum, field->other->name), ")");
	}
	if (field->count)
		sum = mix_text(mix_decimal(mix_text(sum, "["), field->count), "]");
	if (field->optional)
		sum = mix_text(sum, "?");
	return sum;
}

/**
 * lu_record_layout - fingerprint of a layout
 * @record: the struct's table.
 * @version: one of its versions.
 *
 * It is what a declaration of the format has, and what a driver in Rust pins.
 *
 * Return: the fingerprint, never 0.
 */
u32 lu_record_layout(const struct lu_record *record, u32 version)
{
	u32 offset = LU_RECORD_HEADER;
	u32 sum = FNV_START;

	for (size_t i = 0; i < record->nr_fields; i++) {
		const struct lu_record_field *field = &record->fields[i];
		u32 inner = 0;

		if (field->since > version)
			continue;
		if (field->type == LU_TYPE_STRUCT)
			inner = lu_record_layout(field->other, field->other_version);
		sum = mix(mix_text(sum, field->name), "", 1);
		sum = mix(mix_type(sum, field), "", 1);
		sum = mix_number(sum, offset);
		sum = mix_number(sum, field_size(field));
		sum = mix_number(sum, inner);
		offset += field_size(field);
	}
	return sum ? sum : 1;
}
EXPORT_SYMBOL_GPL(lu_record_layout);

/* What a handle begins with. */
static u64 tag(const struct lu_record_field *field)
{
	const char *kind = field->type == LU_TYPE_PAGE ? "page" : "area";

	return mix_text(mix(mix_text(FNV_START, kind), "", 1), field->other->name);
}

static u64 load(const void *from, enum lu_record_type type)
{
	u64 value8;
	u32 value4;
	u16 value2;
	u8 value1;

	switch (number_size(type)) {
	case 1:
		memcpy(&value1, from, 1);
		return value1;
	case 2:
		memcpy(&value2, from, 2);
		return value2;
	case 4:
		memcpy(&value4, from, 4);
		return value4;
	default:
		memcpy(&value8, from, 8);
		return value8;
	}
}

static void store(void *to, enum lu_record_type type, u64 value)
{
	u32 value4 = value;
	u16 value2 = value;
	u8 value1 = value;

	switch (number_size(type)) {
	case 1:
		memcpy(to, &value1, 1);
		break;
	case 2:
		memcpy(to, &value2, 2);
		break;
	case 4:
		memcpy(to, &value4, 4);
		break;
	default:
		memcpy(to, &value, 8);
		break;
	}
}

static int put_fields(const struct lu_record *record, u32 version, const void *from, u8 *to);
static int get_fields(const struct lu_record *record, u32 version, void *to, const u8 *from);

static int put_element(const struct lu_record_field *field, const void *from, u8 *to)
{
	struct lu_ref ref;

	switch (field->type) {
	case LU_TYPE_STRUCT:
		return put_fields(field->other, field->other_version, from, to);
	case LU_TYPE_PAGE:
	case LU_TYPE_AREA:
		memcpy(&ref, from, sizeof(ref));
		put(to, tag(field), 8);
		put(to + 8, ref.address, 8);
		put(to + 16, ref.detail, 8);
		return 0;
	default:
		put(to, load(from, field->type), number_size(field->type));
		return 0;
	}
}

static int get_element(const struct lu_record_field *field, void *to, const u8 *from)
{
	struct lu_ref ref;
	u64 value;

	switch (field->type) {
	case LU_TYPE_STRUCT:
		return get_fields(field->other, field->other_version, to, from);
	case LU_TYPE_PAGE:
	case LU_TYPE_AREA:
		if (get(from, 8) != tag(field))
			return -EINVAL;
		ref.address = get(from + 8, 8);
		ref.detail = get(from + 16, 8);
		memcpy(to, &ref, sizeof(ref));
		return 0;
	default:
		value = get(from, number_size(field->type));
		if (field->type == LU_TYPE_BOOL && value > 1)
			return -EINVAL;
		store(to, field->type, value);
		return 0;
	}
}

/* Bytes from one element to the next, in C. */
static size_t stride(const struct lu_record_field *field)
{
	return field->count ? number_size(field->type) : 0;
}

static size_t elements(const struct lu_record_field *field)
{
	return field->count ? field->count : 1;
}

/* Whether a member is what a record is taken to say that does not have it. */
static bool is_fallback(const struct lu_record_field *field, const u8 *from)
{
	u64 mask = ~0ull >> (64 - 8 * number_size(field->type));

	if (field->optional)
		return !from[field->present];
	if (field->type >= LU_TYPE_STRUCT)
		return false;
	for (size_t i = 0; i < elements(field); i++) {
		if (load(from + field->offset + i * stride(field), field->type) !=
		    (field->fallback & mask))
			return false;
	}
	return true;
}

static int put_fields(const struct lu_record *record, u32 version, const void *from, u8 *to)
{
	for (size_t i = 0; i < record->nr_fields; i++) {
		const struct lu_record_field *field = &record->fields[i];
		const u8 *member = (const u8 *)from + field->offset;
		int err;

		if (field->since > version) {
			if (!is_fallback(field, from))
				return -EOPNOTSUPP;
			continue;
		}
		if (field->optional) {
			bool present = ((const u8 *)from)[field->present];

			*to++ = present;
			if (!present) {
				memset(to, 0, element_size(field));
				to += element_size(field);
				continue;
			}
		}
		for (size_t j = 0; j < elements(field); j++) {
			err = put_element(field, member + j * stride(field), to);
			if (err)
				return err;
			to += element_size(field);
		}
	}
	return 0;
}

static bool all_zero(const u8 *bytes, size_t len)
{
	while (len && !*bytes) {
		bytes++;
		len--;
	}
	return !len;
}

static int get_fields(const struct lu_record *record, u32 version, void *to, const u8 *from)
{
	for (size_t i = 0; i < record->nr_fields; i++) {
		const struct lu_record_field *field = &record->fields[i];
		u8 *member = (u8 *)to + field->offset;
		u8 present = 1;
		int err;

		if (field->since > version) {
			for (size_t j = 0; j < elements(field) && !field->optional; j++)
				store(member + j * stride(field), field->type, field->fallback);
			continue;
		}
		if (field->optional) {
			present = *from++;
			if (present > 1 || (!present && !all_zero(from, element_size(field))))
				return -EINVAL;
			((u8 *)to)[field->present] = present;
		}
		for (size_t j = 0; j < elements(field); j++) {
			err = present ? get_element(field, member + j * stride(field), from) : 0;
			if (err)
				return err;
			from += element_size(field);
		}
	}
	return 0;
}

/**
 * lu_record_encode - write a record
 * @record: the struct's table.
 * @version: the version to write.
 * @from: the struct.
 * @to: where to write the record.
 * @room: bytes there.
 *
 * Return: bytes written; -EPROTONOSUPPORT if there is no such version, -EOPNOTSUPP if it cannot say
 * what a later field is, -ENOSPC without room.
 */
int lu_record_encode(const struct lu_record *record, u32 version, const void *from, void *to,
		     size_t room)
{
	size_t size = lu_record_size(record, version);
	int err;

	if (!version || version > record->version)
		return -EPROTONOSUPPORT;
	if (size > room)
		return -ENOSPC;
	put(to, lu_record_layout(record, version), 4);
	put((u8 *)to + 4, version, 4);
	put((u8 *)to + 8, size, 4);
	put((u8 *)to + 12, 0, 4);
	err = put_fields(record, version, from, (u8 *)to + LU_RECORD_HEADER);
	return err ? err : (int)size;
}
EXPORT_SYMBOL_GPL(lu_record_encode);

/**
 * lu_record_decode - read a record
 * @record: the struct's table.
 * @to: the struct to fill; without success, its content means nothing.
 * @bytes: the record, of any version up to the table's.
 * @len: bytes there; more than the record has do not matter.
 *
 * Numbers in the record are still those of another kernel: check them before use.
 *
 * Return: the record's version; -EPROTONOSUPPORT if it is unknown, -EINVAL for bytes that are no
 * record of this struct.
 */
int lu_record_decode(const struct lu_record *record, void *to, const void *bytes, size_t len)
{
	const u8 *from = bytes;
	u32 version;
	int err;

	if (len < LU_RECORD_HEADER)
		return -EINVAL;
	version = get(from + 4, 4);
	if (!version || version > record->version)
		return -EPROTONOSUPPORT;
	if (get(from, 4) != lu_record_layout(record, version) || get(from + 12, 4))
		return -EINVAL;
	if (get(from + 8, 4) != lu_record_size(record, version) ||
	    len < lu_record_size(record, version))
		return -EINVAL;
	memset(to, 0, record->size);
	err = get_fields(record, version, to, from + LU_RECORD_HEADER);
	return err ? err : (int)version;
}
EXPORT_SYMBOL_GPL(lu_record_decode);
