/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What arrived by a live update, for who must tell apart that nothing did, that this kernel does
 * not read it, and that it is damaged. liveupdate_flb_get_incoming() has one errno for the first
 * two.
 */
#ifndef _LINUX_LIVEUPDATE_ARRIVAL_H
#define _LINUX_LIVEUPDATE_ARRIVAL_H

#include <linux/errno.h>

struct liveupdate_flb;

#ifdef CONFIG_LIVEUPDATE
/**
 * liveupdate_arrival - tell what arrived as a whole
 *
 * Return: 0 if something did, and all of it is whole as far as it was read; -ENOENT if nothing did,
 * or live update is off; -EPROTONOSUPPORT if it is of a version that this kernel does not read;
 * -EBADMSG if some of it is damaged.
 */
int liveupdate_arrival(void);

/**
 * liveupdate_flb_arrival - tell what arrived of an FLB
 * @flb: the FLB; nothing of it is restored
 *
 * Return: 0 if it arrived; -ENOENT if it did not; -EPROTONOSUPPORT if another version of its format
 * did; -EBADMSG if its record is damaged, or what lists it.
 */
int liveupdate_flb_arrival(struct liveupdate_flb *flb);
#else
static inline int liveupdate_arrival(void)
{
	return -ENOENT;
}

static inline int liveupdate_flb_arrival(struct liveupdate_flb *flb)
{
	return -ENOENT;
}
#endif

#endif /* _LINUX_LIVEUPDATE_ARRIVAL_H */
