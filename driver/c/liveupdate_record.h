/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Structs that are handed over, for drivers in C: the same bytes as handover_struct! has in Rust.
 *
 * A table says which members of a struct make up a record, in which order, of which type, and since
 * which version. The compiler checks each line of it against the struct.
 *
 *	struct queue {
 *		u16 next;
 *		u8 name[8];
 *		u16 burst;
 *	};
 *
 *	static const struct lu_record_field queue_fields[] = {
 *		LU_FIELD(struct queue, next, U16),
 *		LU_ARRAY(struct queue, name, U8),
 *		LU_FIELD_SINCE(2, 1, struct queue, burst, U16),
 *	};
 *	static const struct lu_record queue_record =
 *		LU_RECORD("queue", 2, struct queue, queue_fields);
 *
 * Format and rules: Documentation of the project, drivers.rst.
 */
#ifndef _LINUX_LIVEUPDATE_RECORD_H
#define _LINUX_LIVEUPDATE_RECORD_H

#ifdef __KERNEL__
#include <linux/stddef.h>
#include <linux/types.h>
#else
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
#endif

/* Bytes before the first field. */
#define LU_RECORD_HEADER 16

/* A handle to something else that is preserved: a record in a page of its own, or an area. */
struct lu_ref {
	u64 address;
	u64 detail;
};

enum lu_record_type {
	LU_TYPE_U8,
	LU_TYPE_U16,
	LU_TYPE_U32,
	LU_TYPE_U64,
	LU_TYPE_S8,
	LU_TYPE_S16,
	LU_TYPE_S32,
	LU_TYPE_S64,
	LU_TYPE_BOOL,
	/* Another struct that has a table, in one version of it. */
	LU_TYPE_STRUCT,
	/* A struct lu_ref to a record, or to an area of records, of that struct. */
	LU_TYPE_PAGE,
	LU_TYPE_AREA,
};

#define LU_CTYPE_U8 u8
#define LU_CTYPE_U16 u16
#define LU_CTYPE_U32 u32
#define LU_CTYPE_U64 u64
#define LU_CTYPE_S8 s8
#define LU_CTYPE_S16 s16
#define LU_CTYPE_S32 s32
#define LU_CTYPE_S64 s64
#define LU_CTYPE_BOOL bool
#define LU_CTYPE_PAGE struct lu_ref
#define LU_CTYPE_AREA struct lu_ref

struct lu_record;

/* A field: a member of a C struct. Made by the macros below. */
struct lu_record_field {
	const char *name;
	enum lu_record_type type;
	/* The version in which it came, and what older records are taken to say. */
	u32 since;
	u64 fallback;
	/* Elements of an array; 0 for what is none. */
	u32 count;
	/* Where the member is, and of an option, the bool that says whether there is a value. */
	size_t offset;
	size_t present;
	bool optional;
	/* The nested struct and its version, or what a handle is to. */
	const struct lu_record *other;
	u32 other_version;
};

/* A struct: its table. */
struct lu_record {
	const char *name;
	u32 version;
	const struct lu_record_field *fields;
	size_t nr_fields;
	/* Of the struct in C. */
	size_t size;
};

/* 0, or no compilation. */
#define LU_MUST(_what) (sizeof(char[(_what) ? 1 : -1]) - 1)
#define LU_TYPEOF(_struct, _member) __typeof__(((_struct *)0)->_member)
#define LU_SAME(_one, _other) __builtin_types_compatible_p(_one, _other)

#define LU_PLACE(_struct, _member, _ctype)						\
	(offsetof(_struct, _member) + LU_MUST(LU_SAME(LU_TYPEOF(_struct, _member), _ctype)))

#define __LU_FIELD(_since, _fallback, _struct, _member, _type)				\
	.name = #_member, .type = LU_TYPE_##_type, .since = (_since),			\
	.fallback = (_fallback),							\
	.offset = LU_PLACE(_struct, _member, LU_CTYPE_##_type)

/* A member that is a number or a bool. */
#define LU_FIELD(_struct, _member, _type)						\
	{ __LU_FIELD(1, 0, _struct, _member, _type) }

/* One that came later: what older records are taken to say, and since when it is there. */
#define LU_FIELD_SINCE(_since, _fallback, _struct, _member, _type)			\
	{ __LU_FIELD(_since, _fallback, _struct, _member, _type) }

/* A member that is an array of these. */
#define LU_ARRAY_SINCE(_since, _fallback, _struct, _member, _type)			\
	{ .name = #_member, .type = LU_TYPE_##_type, .since = (_since),			\
	  .fallback = (_fallback),							\
	  .count = sizeof(LU_TYPEOF(_struct, _member)) / sizeof(LU_CTYPE_##_type),	\
	  .offset = offsetof(_struct, _member) +					\
		    LU_MUST(LU_SAME(LU_TYPEOF(_struct, _member[0]), LU_CTYPE_##_type)) }
#define LU_ARRAY(_struct, _member, _type) LU_ARRAY_SINCE(1, 0, _struct, _member, _type)

/* A member that is there if another one, a bool, says so. Older records are taken to have none. */
#define LU_OPTION_SINCE(_since, _struct, _member, _present, _type)			\
	{ __LU_FIELD(_since, 0, _struct, _member, _type), .optional = true,		\
	  .present = LU_PLACE(_struct, _present, bool) }
#define LU_OPTION(_struct, _member, _present, _type)					\
	LU_OPTION_SINCE(1, _struct, _member, _present, _type)

/* A struct in the struct, in one version of it. */
#define LU_NESTED(_struct, _member, _ctype, _record, _version)				\
	{ .name = #_member, .type = LU_TYPE_STRUCT, .since = 1,				\
	  .other = (_record), .other_version = (_version),				\
	  .offset = LU_PLACE(_struct, _member, _ctype) }

/* A handle, PAGE or AREA, to records of a struct, which is there if a bool says so. */
#define LU_REF_SINCE(_since, _struct, _member, _present, _kind, _record)		\
	{ __LU_FIELD(_since, 0, _struct, _member, _kind), .optional = true,		\
	  .present = LU_PLACE(_struct, _present, bool), .other = (_record) }
#define LU_REF(_struct, _member, _present, _kind, _record)				\
	LU_REF_SINCE(1, _struct, _member, _present, _kind, _record)

#define LU_RECORD(_name, _version, _struct, _fields)					\
	{ .name = (_name), .version = (_version), .fields = (_fields),			\
	  .nr_fields = sizeof(_fields) / sizeof((_fields)[0]), .size = sizeof(_struct) }

u32 lu_record_layout(const struct lu_record *record, u32 version);
size_t lu_record_size(const struct lu_record *record, u32 version);
int lu_record_encode(const struct lu_record *record, u32 version, const void *from, void *to,
		     size_t room);
int lu_record_decode(const struct lu_record *record, void *to, const void *bytes, size_t len);

#endif
