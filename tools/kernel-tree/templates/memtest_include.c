// SPDX-License-Identifier: GPL-2.0
/* liveupdate-rs begin */
#include <linux/kexec_handover.h>
/* liveupdate-rs end */
