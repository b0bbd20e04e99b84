// SPDX-License-Identifier: GPL-2.0
	/* liveupdate-rs begin */
#ifdef CONFIG_LIVEUPDATE_EVENTFD
	__le64 *kept;
#endif
	/* liveupdate-rs end */
