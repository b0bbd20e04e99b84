/* SPDX-License-Identifier: GPL-2.0 */
/* liveupdate-rs begin */
#include "liveupdate.c"
/* liveupdate-rs end */
