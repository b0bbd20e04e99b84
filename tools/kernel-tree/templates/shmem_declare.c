// SPDX-License-Identifier: GPL-2.0
/* liveupdate-rs begin: kernel/liveupdate/rust/sys/c/memfd_holes.c */
#ifdef CONFIG_LIVEUPDATE_MEMFD
bool lu_shmem_closed(const struct address_space *mapping);
int lu_shmem_wait(const struct address_space *mapping);
#else
#define lu_shmem_closed(mapping) false
#define lu_shmem_wait(mapping) 0
#endif
/* liveupdate-rs end */
