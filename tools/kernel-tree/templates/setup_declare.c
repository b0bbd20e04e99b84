// SPDX-License-Identifier: GPL-2.0
/* liveupdate-rs begin: kernel/liveupdate/rust */
#ifdef CONFIG_KEXEC_HANDOVER
void lu_memory_known(void);
#else
static inline void lu_memory_known(void) { }
#endif
/* liveupdate-rs end */
