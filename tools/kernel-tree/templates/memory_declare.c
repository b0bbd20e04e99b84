// SPDX-License-Identifier: GPL-2.0
/* liveupdate-rs begin: kernel/liveupdate/rust */
#ifdef CONFIG_KEXEC_HANDOVER
void lu_memory_reserve(void);
#else
static inline void lu_memory_reserve(void) { }
#endif
/* liveupdate-rs end */
