// SPDX-License-Identifier: GPL-2.0
		/* liveupdate-rs begin */
		if (!expected && lu_shmem_closed(mapping)) {
			xas_set_err(&xas, -EAGAIN);
			goto unlock;
		}
		/* liveupdate-rs end */
