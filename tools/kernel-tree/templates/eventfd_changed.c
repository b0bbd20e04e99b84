// SPDX-License-Identifier: GPL-2.0
	/* liveupdate-rs begin */
	lu_eventfd_changed(ctx);
	/* liveupdate-rs end */
