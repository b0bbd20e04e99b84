// SPDX-License-Identifier: GPL-2.0
/*
 * Holes of preserved memfds from the freeze on: no page comes into being in one until the kexec, or
 * until the reboot is called off. Whoever tries waits.
 */
#include <linux/fs.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include "glue.h"

/* Files that are frozen. They are frozen one after the other, by the task that reboots. */
static unsigned int frozen;

/* It may fill holes, for a version that has none. */
static struct task_struct *rebooter;

static DECLARE_WAIT_QUEUE_HEAD(opened);

/*
 * Called by mm/shmem.c with the lock of the mapping held, for pages that are new. What was swapped
 * out may come in: it is counted as the file's, so the look at its freeze brings it in and keeps
 * it. Were it to wait, the rebooter would wait for the lock of its folio. That a file is preserved
 * stands in its flags before it can be frozen, so they need no lock.
 */
bool lu_shmem_closed(const struct address_space *mapping)
{
	return unlikely(READ_ONCE(frozen)) && current != READ_ONCE(rebooter) &&
	       (READ_ONCE(SHMEM_I(mapping->host)->flags) & SHMEM_F_MAPPING_FROZEN);
}

/*
 * Called by mm/shmem.c without spinlocks, when a page was kept out of the file. Waits while the
 * file is closed, and the page is put in then: a reboot that is called off should have harmed
 * nobody. Any error would be wrong: UFFDIO_COPY passes on that a page is there, and nobody would
 * bring it again.
 *
 * Return: 0, or -EINTR for a task that is being killed.
 */
int lu_shmem_wait(const struct address_space *mapping)
{
	return wait_event_killable(opened, !lu_shmem_closed(mapping)) ? -EINTR : 0;
}

void lu_memfd_close_holes(struct file *file)
{
	WRITE_ONCE(rebooter, current);
	WRITE_ONCE(frozen, frozen + 1);
	/* Whoever has asked before has put his page in once the lock is free; it will be seen. */
	xa_lock_irq(&file->f_mapping->i_pages);
	xa_unlock_irq(&file->f_mapping->i_pages);
}

void lu_memfd_open_holes(void)
{
	WRITE_ONCE(frozen, frozen - 1);
	if (frozen)
		return;
	WRITE_ONCE(rebooter, NULL);
	wake_up_all(&opened);
}
