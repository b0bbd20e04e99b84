// SPDX-License-Identifier: GPL-2.0
	/* liveupdate-rs begin: what is in scratch could not be handed over */
	while (start && kho_scratch_overlap(start, size)) {
		memblock_phys_free(start, size);
		start = memblock_phys_alloc_range(size, align, 0, start);
	}
	/* liveupdate-rs end */
