// SPDX-License-Identifier: GPL-2.0
	/* liveupdate-rs begin */
	lu_memory_known();
	/* liveupdate-rs end */
