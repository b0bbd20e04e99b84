// SPDX-License-Identifier: GPL-2.0
		/* liveupdate-rs begin */
		if (!expected && lu_shmem_wait(mapping))
			return -EINTR;
		/* liveupdate-rs end */
