// SPDX-License-Identifier: GPL-2.0
/* liveupdate-rs begin: kernel/liveupdate/rust/sys/c/eventfd_ctx.h */
#ifdef CONFIG_LIVEUPDATE_EVENTFD
/* The count has changed, under the lock: the next kernel's copy has to follow. */
#define lu_eventfd_changed(ctx)							\
	do {									\
		if (unlikely((ctx)->kept))					\
			WRITE_ONCE(*(ctx)->kept, cpu_to_le64((ctx)->count));	\
	} while (0)
#else
#define lu_eventfd_changed(ctx) do { } while (0)
#endif
/* liveupdate-rs end */
