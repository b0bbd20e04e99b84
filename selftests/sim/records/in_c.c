// SPDX-License-Identifier: GPL-2.0
/*
 * The struct of versions.rs, as a driver in C has it: reads lines of hex digits, each a record;
 * writes back the record as it would write it itself in each version, or why not.
 */
#include <stdio.h>
#include <string.h>

#include "liveupdate_record.h"

struct inner {
	u32 number;
	s16 level;
};

static const struct lu_record_field inner_fields[] = {
	LU_FIELD(struct inner, number, U32),
	LU_FIELD_SINCE(2, -1, struct inner, level, S16),
};

static const struct lu_record inner_record =
	LU_RECORD("tests-inner", 2, struct inner, inner_fields);

struct record {
	/* In the order in which C packs them best. */
	u64 next;
	u64 step;
	struct lu_ref page;
	struct inner inner;
	u16 limit;
	bool has_limit;
	bool has_page;
	bool on;
	s8 small;
	u8 name[5];
	s32 levels[3];
};

static const struct lu_record_field record_fields[] = {
	LU_FIELD(struct record, next, U64),
	LU_FIELD(struct record, small, S8),
	LU_FIELD(struct record, on, BOOL),
	LU_ARRAY(struct record, name, U8),
	LU_OPTION(struct record, limit, has_limit, U16),
	LU_NESTED(struct record, inner, struct inner, &inner_record, 1),
	LU_REF(struct record, page, has_page, PAGE, &inner_record),
	LU_FIELD_SINCE(2, 7, struct record, step, U64),
	LU_ARRAY_SINCE(3, -2, struct record, levels, S32),
};

static const struct lu_record record_record =
	LU_RECORD("tests-in-c", 3, struct record, record_fields);

int main(void)
{
	static u8 bytes[512], again[512];
	static char line[1100];
	struct record record;

	while (fgets(line, sizeof(line), stdin)) {
		size_t len = 0;
		unsigned int byte;
		int read;

		while (sscanf(line + 2 * len, "%2x", &byte) == 1)
			bytes[len++] = byte;
		read = lu_record_decode(&record_record, &record, bytes, len);
		printf("%d", read);
		for (u32 version = 1; read > 0 && version <= 3; version++) {
			int size = lu_record_encode(&record_record, version, &record, again,
						    sizeof(again));

			printf(" ");
			if (size < 0)
				printf("%d", size);
			for (int i = 0; i < size; i++)
				printf("%02x", again[i]);
		}
		printf("\n");
	}
	return 0;
}
