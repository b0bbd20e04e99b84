// SPDX-License-Identifier: GPL-2.0
/* liveupdate-rs begin */
#ifdef CONFIG_LIVEUPDATE_EVENTFD
#include "../kernel/liveupdate/rust/sys/c/eventfd_ctx.h"
#endif
/* liveupdate-rs end */

