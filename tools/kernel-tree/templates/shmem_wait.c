// SPDX-License-Identifier: GPL-2.0
		/* liveupdate-rs begin */
		if (xas_error(&xas) == -EAGAIN)
			return lu_shmem_wait(mapping) ?:
			       shmem_add_to_page_cache(folio, mapping, index, expected, gfp);
		/* liveupdate-rs end */
