// SPDX-License-Identifier: GPL-2.0
	/* liveupdate-rs begin */
#ifdef CONFIG_LIVEUPDATE_EVENTFD
	ctx->kept = NULL;
#endif
	/* liveupdate-rs end */
