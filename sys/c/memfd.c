// SPDX-License-Identifier: GPL-2.0
/*
 * memfds before the kexec: what is known of a file, and references to its folios, a batch a call.
 * Registers the handler with the live update orchestrator.
 */
#define pr_fmt(fmt) "memfd: " fmt

#include <linux/mm.h>

#include <linux/delay.h>
#include <linux/file.h>
#include <linux/kho/abi/memfd.h>
#include <linux/kstrtox.h>
#include <linux/liveupdate.h>
#include <linux/memfd.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "../../../../../mm/internal.h"
#include "glue.h"

/* What memfd_create(2) puts in front of a name. */
#define MEMFD_NAME_PREFIX "memfd:"

/* Folios that are brought into ordinary memory at once: enough to make one drain worth it. */
#define AT_ONCE 512

static_assert(sizeof(struct memfd_luo_ser) == 48);
static_assert(sizeof(struct memfd_luo_folio_ser) == 16);

bool lu_memfd_is_ours(const struct file *file)
{
	return shmem_file((struct file *)file) && !file_inode(file)->i_nlink;
}

unsigned long lu_memfd_id(const struct file *file)
{
	return (unsigned long)file_inode(file);
}

void lu_memfd_describe(struct file *file, struct lu_memfd_about *about)
{
	struct inode *inode = file_inode(file);
	const struct qstr *name = &file->f_path.dentry->d_name;
	size_t prefix = str_has_prefix(name->name, MEMFD_NAME_PREFIX);
	u64 size = i_size_read(inode);
	u64 pages = DIV_ROUND_UP_ULL(size, PAGE_SIZE);
	u64 here = lu_memfd_in_memory(file) + lu_memfd_swapped(file);

	*about = (struct lu_memfd_about){
		.pos = file->f_pos,
		.size = size,
		.seals = memfd_get_seals(file),
		.mode = inode->i_mode,
		.writable = file->f_mode & FMODE_WRITE,
		.no_room = pages > here && pages - here > si_mem_available(),
		.name_len = min_t(size_t, name->len - prefix, sizeof(about->name)),
	};
	/* The name of an unlinked file does not change. */
	memcpy(about->name, name->name + prefix, about->name_len);
}

/*
 * From here on the file's size and its holes stay as they are, if they did not already for somebody
 * else: false then.
 */
bool lu_memfd_freeze(struct file *file)
{
	struct inode *inode = file_inode(file);
	bool ours;

	inode_lock(inode);
	ours = !(SHMEM_I(inode)->flags & SHMEM_F_MAPPING_FROZEN);
	shmem_freeze(inode, true);
	inode_unlock(inode);
	return ours;
}

void lu_memfd_thaw(struct file *file)
{
	struct inode *inode = file_inode(file);

	inode_lock(inode);
	shmem_freeze(inode, false);
	inode_unlock(inode);
}

static void note(struct lu_memfd_folio *to, struct folio *folio)
{
	to->pfn = folio_pfn(folio);
	to->index = folio->index;
	to->order = folio_order(folio);
}

/*
 * The common case, without sleeping: folios from @index on that are in memory, and may stay where
 * they are. Each is looked at under its lock, so that swap-out either sees the reference or has
 * taken the folio from the file already. Stops at the first that needs more.
 */
static unsigned int pin_present(struct address_space *mapping, pgoff_t index, pgoff_t end,
				struct lu_memfd_folio *into, unsigned int most)
{
	XA_STATE(xas, &mapping->i_pages, index);
	unsigned long block = ULONG_MAX;
	struct folio *folio;
	unsigned int nr = 0;

	rcu_read_lock();
	for (folio = xas_load(&xas); folio && nr < most && xas.xa_index < end;
	     folio = xas_next(&xas)) {
		unsigned long here;
		bool good;

		/*
		 * Nothing but swap and folios is in there; a retry means that the tree has moved.
		 */
		if (xa_is_value(folio) || xa_is_internal(folio) || !folio_try_get(folio))
			break;
		if (unlikely(folio != xas_reload(&xas) || !folio_trylock(folio))) {
			folio_put(folio);
			break;
		}
		good = folio->mapping == mapping && folio->index == xas.xa_index &&
		       folio_test_uptodate(folio) && !folio_contain_hwpoisoned_page(folio);
		here = folio_pfn(folio) >> pageblock_order;
		if (good && here != block) {
			good = folio_is_longterm_pinnable(folio);
			block = here;
		}
		/* All that dirtying a folio of shmem is: see its a_ops. */
		if (good && !folio_test_dirty(folio))
			folio_set_dirty(folio);
		folio_unlock(folio);
		if (unlikely(!good)) {
			folio_put(folio);
			break;
		}
		note(&into[nr++], folio);
		if (folio_test_large(folio))
			xas_advance(&xas, folio_next_index(folio) - 1);
	}
	rcu_read_unlock();
	return nr;
}

/* Brings in what is swapped out, and fills holes, without killing anybody for it. */
static int populate(struct address_space *mapping, pgoff_t index, pgoff_t end)
{
	gfp_t gfp = mapping_gfp_mask(mapping) | __GFP_RETRY_MAYFAIL | __GFP_NOWARN;
	unsigned int flags = memalloc_pin_save();
	int err = 0;

	while (index < end && !err) {
		struct folio *folio = shmem_read_folio_gfp(mapping, index, gfp);

		if (IS_ERR(folio)) {
			err = PTR_ERR(folio);
			break;
		}
		index = folio_next_index(folio);
		folio_put(folio);
		if (fatal_signal_pending(current))
			err = -EINTR;
		cond_resched();
	}
	memalloc_pin_restore(flags);
	return err;
}

/*
 * Makes a pinned folio ready and takes a reference: 0, -EAGAIN if it has left the file, or -errno.
 */
static int take(struct address_space *mapping, struct folio *folio)
{
	int err = 0;

	folio_lock(folio);
	if (folio->mapping != mapping) {
		err = -EAGAIN;
	} else if (folio_contain_hwpoisoned_page(folio)) {
		err = -EHWPOISON;
	} else {
		if (!folio_test_uptodate(folio)) {
			folio_zero_range(folio, 0, folio_size(folio));
			flush_dcache_folio(folio);
			folio_mark_uptodate(folio);
		}
		folio_mark_dirty(folio);
		folio_get(folio);
	}
	folio_unlock(folio);
	return err;
}

static int pin_absent(struct file *file, pgoff_t index, pgoff_t end, struct folio **folios,
		      struct lu_memfd_folio *into, unsigned int most)
{
	struct address_space *mapping = file->f_mapping;
	loff_t last;
	pgoff_t offset;
	unsigned int nr = 0;
	long pinned;
	int err;

	end = min(end, index + AT_ONCE);
	err = populate(mapping, index, end);
	if (err)
		return err;
	last = min_t(loff_t, (loff_t)end << PAGE_SHIFT, i_size_read(file_inode(file))) - 1;
	pinned = memfd_pin_folios(file, (loff_t)index << PAGE_SHIFT, last, folios, AT_ONCE,
				  &offset);
	if (pinned <= 0)
		return pinned ?: -EAGAIN;
	while (nr < min_t(unsigned int, pinned, most)) {
		err = take(mapping, folios[nr]);
		if (err)
			break;
		note(&into[nr], folios[nr]);
		nr++;
	}
	unpin_folios(folios, pinned);
	/*
	 * Poisoned memory fails the whole call. If a folio was only truncated or replaced, keep
	 * those before it.
	 */
	if (err == -EHWPOISON) {
		lu_memfd_unpin(into, nr);
		return err;
	}
	return nr ?: err;
}

/*
 * References to the folios from page @index of the file on, up to page @end, at most @most and at
 * least one. They are in ordinary memory, stay there, are dirty and up to date.
 *
 * Return: how many, or -errno and there is no reference.
 */
int lu_memfd_pin(struct file *file, u64 index, u64 end, struct lu_memfd_folio *into,
		 unsigned int most)
{
	struct folio **folios;
	int nr;

	cond_resched();
	if (fatal_signal_pending(current))
		return -EINTR;
	nr = pin_present(file->f_mapping, index, end, into, most);
	if (nr)
		return nr;
	folios = kmalloc_array(AT_ONCE, sizeof(*folios), GFP_KERNEL);
	if (!folios)
		return -ENOMEM;
	do {
		nr = fatal_signal_pending(current) ? -EINTR :
		     pin_absent(file, index, end, folios, into, most);
	} while (nr == -EAGAIN);
	kfree(folios);
	return nr;
}

void lu_memfd_orders(struct lu_memfd_folio *folios, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		folios[i].order = folio_order(pfn_folio(folios[i].pfn));
}

void lu_memfd_unpin(const struct lu_memfd_folio *folios, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		folio_put(pfn_folio(folios[i].pfn));
}

/* How far from @index on there is something in the file, up to @end. */
static pgoff_t present_until(struct address_space *mapping, pgoff_t index, pgoff_t end)
{
	XA_STATE(xas, &mapping->i_pages, index);
	void *entry;

	rcu_read_lock();
	while (index < end) {
		entry = xas_load(&xas);
		if (xas_retry(&xas, entry))
			continue;
		if (!entry)
			break;
		index = round_down(index, 1UL << xas_get_order(&xas)) +
			(1UL << xas_get_order(&xas));
		xas_set(&xas, index);
	}
	rcu_read_unlock();
	return min(index, end);
}

/*
 * As lu_memfd_pin(), of what is there: swapped out or in memory. Holes are passed over, and @index
 * goes on to the first page that is there, or to @end.
 *
 * Return: how many, 0 when @index is @end, or -errno and there is no reference.
 */
int lu_memfd_pin_present(struct file *file, u64 *index, u64 end, struct lu_memfd_folio *into,
			 unsigned int most)
{
	struct address_space *mapping = file->f_mapping;
	unsigned long at = *index;
	unsigned int nr;
	bool found;

	cond_resched();
	rcu_read_lock();
	found = xa_find(&mapping->i_pages, &at, end - 1, XA_PRESENT);
	rcu_read_unlock();
	if (!found) {
		*index = end;
		return 0;
	}
	/* An entry of many pages is found at any of them. */
	*index = max_t(u64, *index, at);
	if (fatal_signal_pending(current))
		return -EINTR;
	/* It stops at a hole. How far that is need be known only for what has to be brought in. */
	nr = pin_present(mapping, *index, end, into, most);
	if (nr)
		return nr;
	return lu_memfd_pin(file, *index,
			    present_until(mapping, *index, min_t(u64, end, *index + AT_ONCE)),
			    into, most);
}

#ifdef CONFIG_KEXEC_HANDOVER_DEBUG
/* For tests: microseconds between one look at a file and the next. */
static unsigned int slow;

static int __init parse_slow(char *arg)
{
	return kstrtouint(arg, 0, &slow);
}
early_param("liveupdate.slow", parse_slow);
#else
#define slow 0
#endif

u64 lu_memfd_in_memory(const struct file *file)
{
	return READ_ONCE(file_inode(file)->i_mapping->nrpages);
}

u64 lu_memfd_swapped(const struct file *file)
{
	if (slow)
		usleep_range(slow, slow + 1);
	return READ_ONCE(SHMEM_I(file_inode(file))->swapped);
}

u64 lu_memfd_charged(const struct file *file)
{
	return READ_ONCE(SHMEM_I(file_inode(file))->alloced);
}

/*
 * What is kept of a preserved file beside its record: how many frames were known to be bad when it
 * was looked at. While there are as many, it has none.
 */
static void *known_bad(void)
{
	return IS_ENABLED(CONFIG_MEMORY_FAILURE) ?
	       (void *)atomic_long_read(&num_poisoned_pages) : NULL;
}

void lu_memfd_unpin_run(u64 pfn, u64 folios, unsigned int order)
{
	for (u64 i = 0; i < folios; i++) {
		folio_put(pfn_folio(pfn + (i << order)));
		if (!(i & 0xfff))
			cond_resched();
	}
}

static bool can_preserve(struct liveupdate_file_handler *handler, struct file *file)
{
	return lu_memfd_is_ours(file);
}

static unsigned long get_id(struct file *file)
{
	return lu_memfd_id(file);
}

/* The operations of one version. Those of all are alike: what they do is in Rust. */
#define LU_MEMFD_HANDLER(_version)							\
static int preserve_##_version(struct liveupdate_file_op_args *args)			\
{											\
	args->private_data = known_bad();						\
	return lu_memfd_preserve(args->file, _version, &args->serialized_data);		\
}											\
static void unpreserve_##_version(struct liveupdate_file_op_args *args)			\
{											\
	lu_memfd_unpreserve(args->file, _version, args->serialized_data);		\
}											\
static int freeze_##_version(struct liveupdate_file_op_args *args)			\
{											\
	int err;									\
											\
	lu_memfd_close_holes(args->file);						\
	err = lu_memfd_update(args->file, _version, args->serialized_data,		\
			      args->private_data != known_bad());			\
	if (err)									\
		lu_memfd_open_holes();							\
	return err;									\
}											\
static void unfreeze_##_version(struct liveupdate_file_op_args *args)			\
{											\
	lu_memfd_open_holes();								\
}											\
static int retrieve_##_version(struct liveupdate_file_op_args *args)			\
{											\
	return lu_memfd_retrieve(_version, args->serialized_data, &args->file);		\
}											\
static void finish_##_version(struct liveupdate_file_op_args *args)			\
{											\
	/* A retrieve that failed has left everything as it was. */			\
	if (args->retrieve_status <= 0)							\
		lu_memfd_discard(_version, args->serialized_data);			\
}											\
static int convert_##_version(struct liveupdate_file_op_args *args, u32 from)		\
{											\
	return lu_memfd_convert(args->file, _version, args->serialized_data);		\
}											\
static const struct liveupdate_file_ops ops_##_version = {				\
	.can_preserve = can_preserve,							\
	.preserve = preserve_##_version,						\
	.unpreserve = unpreserve_##_version,						\
	.freeze = freeze_##_version,							\
	.unfreeze = unfreeze_##_version,						\
	.retrieve = retrieve_##_version,						\
	.finish = finish_##_version,							\
	.get_id = get_id,								\
	.owner = THIS_MODULE,								\
}

LU_MEMFD_HANDLER(2);
LU_MEMFD_HANDLER(3);

static struct liveupdate_file_handler version_2 = {
	.ops = &ops_2,
	.compatible = MEMFD_LUO_FH_COMPATIBLE,
};

static struct liveupdate_file_handler version_3 = {
	.ops = &ops_3,
	.compatible = "memfd-v3",
};

static int __init init(void)
{
	int err = lu_luo_register_version(&version_2, convert_2, &version_2) ?:
		  lu_luo_register_version(&version_3, convert_3, &version_2);

	/* Live updates may be off. */
	if (err && err != -EOPNOTSUPP)
		pr_err("cannot register with the live update orchestrator: %d\n", err);
	return err == -EOPNOTSUPP ? 0 : err;
}
late_initcall(init);
