// SPDX-License-Identifier: GPL-2.0
/*
 * memfds after the kexec: claimed frames become folios of a file that nobody has open yet, a batch
 * a call, and frames that wait again when the rest of the file cannot be had.
 *
 * Others come by all the same: drop_caches visits every inode, and some look at all page frames.
 * They may hold a reference for a moment, but not the lock: it is ours from a folio's first moment
 * until the file is published, or until the folio is undone.
 */
#include <linux/mm.h>

#include <linux/file.h>
#include <linux/huge_mm.h>
#include <linux/kstrtox.h>
#include <linux/memcontrol.h>
#include <linux/memfd.h>
#include <linux/folio_batch.h>
#include <linux/mm_inline.h>
#include <linux/pagemap.h>
#include <linux/pgalloc_tag.h>
#include <linux/sched/mm.h>
#include <linux/shmem_fs.h>
#include <uapi/linux/memfd.h>

#include "../../../../../mm/internal.h"
#include "../../../../../mm/page_alloc.h"
#include "glue.h"

/* Over the limit of its cgroup the retriever gets an error, and nobody is killed. */
#define CHARGE_GFP (GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN)

/*
 * Where there is no way back: what reclaim cannot make room for goes over the limit, for a moment.
 */
#define MUST_GFP (CHARGE_GFP | __GFP_NOFAIL)

/* Pages that are taken in at once then, where a folio is not larger. */
#define MUST_PAGES 64

/* The largest folio a file may have here: the page cache has large ones only with huge pages. */
unsigned int lu_memfd_max_order(void)
{
	return IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) ? MAX_PAGECACHE_ORDER : 0;
}

static bool merge = true;

static int __init parse_merge(char *arg)
{
	return kstrtobool(arg, &merge);
}
early_param("liveupdate.merge", parse_merge);

/* The largest folio that neighbours are joined to; 0 if they are left as they are. */
unsigned int lu_memfd_merge_order(void)
{
	if (!IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) || !has_transparent_hugepage() || !merge)
		return 0;
	return min_t(unsigned int, HPAGE_PMD_ORDER, MAX_PAGECACHE_ORDER);
}

u32 lu_memfd_zone(u64 pfn)
{
	struct page *page = pfn_to_page(pfn);

	return page_to_nid(page) * MAX_NR_ZONES + page_zonenum(page);
}

/*
 * A memfd of this kernel, empty. It is the retriever's, so bits that would make a program run as
 * somebody else are not its owner's any more, and go, as they do when a file is given away. The
 * mode comes first: what a seal implies depends on it.
 */
struct file *lu_memfd_create(const struct lu_memfd_about *about)
{
	char *name = kasprintf(GFP_KERNEL, "memfd:%.*s", (int)about->name_len, about->name);
	struct file *file;
	int err;

	if (!name)
		return ERR_PTR(-ENOMEM);
	file = memfd_alloc_file(name, MFD_ALLOW_SEALING);
	kfree(name);
	if (IS_ERR(file))
		return file;
	file_inode(file)->i_mode = (file_inode(file)->i_mode & ~07777) |
				   (about->mode & ~(S_ISUID | S_ISGID));
	err = memfd_add_seals(file, about->seals);
	if (err) {
		fput(file);
		return ERR_PTR(err);
	}
	/* Everything that F_SEAL_EXEC implied here was implied there. */
	SHMEM_I(file_inode(file))->seals = about->seals;
	vfs_setpos(file, about->pos, MAX_LFS_FILESIZE);
	i_size_write(file_inode(file), about->size);
	return file;
}

void lu_memfd_put(struct file *file)
{
	fput(file);
}

static struct folio *nth(const struct lu_memfd_run *run, u64 n)
{
	return pfn_folio(run->pfn + (n << run->order));
}

/* Frames of a run become folios with one reference each, locked, that are in no file. */
static void make(const struct lu_memfd_run *run)
{
	unsigned long flags = BIT(PG_swapbacked) | BIT(PG_locked) |
			      (run->filled ? BIT(PG_uptodate) | BIT(PG_dirty) : 0);
	struct page *page = pfn_to_page(run->pfn);

	if (!run->order) {
		for (u64 i = 0; i < run->count; i++, page++) {
			page->flags.f = (page->flags.f & ~BIT(PG_reserved)) | flags;
			clear_page_tag_ref(page);
			set_page_count(page, 1);
		}
	} else {
		for (u64 i = 0; i < run->count; i++) {
			struct folio *folio = lu_make_folio(run->pfn + (i << run->order),
							    run->order);

			folio->flags.f |= flags;
			folio_set_count(folio, 1);
		}
	}
	lu_account(run->pfn, run->count << run->order);
}

/*
 * The other way: reserved frames, as the boot made them. @refs references are ours. Whoever has one
 * more lets go of it soon, now that he can have the lock and sees that the folio is in no file;
 * only one to bad memory is kept for ever, and then nobody ever gets the frame.
 */
static void unmake(struct folio *folio, int refs)
{
	unsigned int order = folio_order(folio);
	struct page *page = &folio->page;
	unsigned long i;

	folio_unlock(folio);
	while (!folio_ref_freeze(folio, refs) && !folio_contain_hwpoisoned_page(folio))
		schedule_timeout_uninterruptible(1);
	mem_cgroup_uncharge(folio);

	lu_account(folio_pfn(folio), -(long)folio_nr_pages(folio));
	if (order) {
		page[1].flags.f &= ~PAGE_FLAGS_SECOND;
#ifdef NR_PAGES_IN_LARGE_FOLIO
		folio->_nr_pages = 0;
#endif
	}
	for (i = 0; i < 1UL << order; i++) {
		if (i)
			clear_compound_head(page + i);
		page[i].flags.f &= ~PAGE_FLAGS_CHECK_AT_PREP;
		page[i].mapping = NULL;
		page[i].__folio_index = 0;
		page[i].private = 0;
		atomic_set(&page[i]._mapcount, -1);
		INIT_LIST_HEAD(&page[i].lru);
		set_page_count(page + i, 0);
		__SetPageReserved(page + i);
	}
}

/* What the statistics know of @pages pages like this folio. */
static void count(struct folio *folio, unsigned long pages)
{
	if (!pages)
		return;
	if (folio_test_pmd_mappable(folio))
		lruvec_stat_mod_folio(folio, NR_SHMEM_THPS, pages);
	lruvec_stat_mod_folio(folio, NR_FILE_PAGES, pages);
	lruvec_stat_mod_folio(folio, NR_SHMEM, pages);
}

/* Charges the folios of a run to the active cgroup. Returns how many could be. */
static u64 charge(const struct lu_memfd_run *run, gfp_t gfp)
{
	u64 i;

	for (i = 0; i < run->count; i++)
		if (mem_cgroup_charge(nth(run, i), NULL, gfp))
			break;
	return i;
}

/*
 * Puts folios of a run into the page cache, which takes over their reference. Whoever finds one
 * there finds it whole: its place and its references are set before. Returns how many could be.
 */
static u64 insert(struct address_space *mapping, const struct lu_memfd_run *run, gfp_t gfp)
{
	XA_STATE_ORDER(xas, &mapping->i_pages, run->index, run->order);
	unsigned long nr = 1UL << run->order, counted = 0;
	struct folio *like = nth(run, 0);
	u64 i = 0;

	do {
		xas_lock_irq(&xas);
		while (i < run->count) {
			struct folio *folio = nth(run, i);

			folio->mapping = mapping;
			folio->index = run->index + i * nr;
			if (run->order)
				folio_ref_add(folio, nr - 1);
			xas_store(&xas, folio);
			if (xas_error(&xas)) {
				folio->mapping = NULL;
				if (run->order)
					folio_ref_sub(folio, nr - 1);
				break;
			}
			if (folio_nid(folio) != folio_nid(like)) {
				count(like, counted);
				like = folio;
				counted = 0;
			}
			counted += nr;
			mapping->nrpages += nr;
			i++;
			if (run->order)
				xas_set_order(&xas, run->index + i * nr, run->order);
			else
				xas_next(&xas);
		}
		xas_unlock_irq(&xas);
	} while (xas_nomem(&xas, gfp));
	count(like, counted);
	return i;
}

/* Takes a folio out of the file, and undoes it. The page cache's references are ours then. */
static void remove(struct address_space *mapping, struct folio *folio)
{
	xa_lock_irq(&mapping->i_pages);
	__filemap_remove_folio(folio, NULL);
	xa_unlock_irq(&mapping->i_pages);
	unmake(folio, folio_nr_pages(folio));
}

/* Folios on their way to the LRU lists, which then everybody may have. */
struct going_out {
	struct folio_batch batch;
	struct lruvec *lruvec;
	unsigned long flags;
};

static void unlock_all(struct going_out *out)
{
	if (out->lruvec)
		lruvec_unlock_irqrestore(out->lruvec, out->flags);
	out->lruvec = NULL;
	for (unsigned int i = 0; i < folio_batch_count(&out->batch); i++)
		folio_unlock(out->batch.folios[i]);
	folio_batch_reinit(&out->batch);
}

/* Returns whether there is room for more before unlock_all() is due. */
static bool let_out(struct going_out *out, struct folio *folio)
{
	folio_lruvec_relock_irqsave(folio, &out->lruvec, &out->flags);
	lruvec_add_folio(out->lruvec, folio);
	folio_set_lru(folio);
	return folio_batch_add(&out->batch, folio);
}

/* The same for all folios of these runs. */
static void let_out_all(struct file *file, const struct lu_memfd_run *runs, unsigned int nr)
{
	struct going_out out = {};
	u64 pages = 0;

	for (unsigned int i = 0; i < nr; i++)
		pages += runs[i].count << runs[i].order;
	shmem_recalc_inode(file_inode(file), pages, 0);
	folio_batch_init(&out.batch);
	for (unsigned int i = 0; i < nr; i++)
		for (u64 n = 0; n < runs[i].count; n++)
			if (!let_out(&out, nth(&runs[i], n)))
				unlock_all(&out);
	unlock_all(&out);
}

static int fill(struct file *file, const struct lu_memfd_run *runs, unsigned int nr, bool shared)
{
	struct address_space *mapping = file->f_mapping;
	gfp_t gfp = shared ? MUST_GFP : CHARGE_GFP;
	unsigned int made, in = 0, paid = 0;
	u64 inserted = 0;
	struct mem_cgroup *memcg, *old;
	int err = -ENOMEM;

	cond_resched();
	for (made = 0; made < nr; made++)
		make(&runs[made]);
	/* Contents are there before anybody sees PG_uptodate. */
	smp_wmb();

	memcg = get_mem_cgroup_from_mm(current->mm);
	old = set_active_memcg(memcg);
	for (; paid < nr; paid++) {
		if (charge(&runs[paid], gfp) < runs[paid].count) {
			err = -EDQUOT;
			goto undo;
		}
	}
	for (; in < nr; in++) {
		inserted = insert(mapping, &runs[in], gfp);
		if (inserted < runs[in].count)
			goto undo;
	}
	err = 0;
	if (shared)
		let_out_all(file, runs, nr);
undo:
	set_active_memcg(old);
	mem_cgroup_put(memcg);
	for (unsigned int i = 0; err && i < nr; i++) {
		for (u64 n = 0; n < runs[i].count; n++) {
			struct folio *folio = nth(&runs[i], n);

			if (i < in || (i == in && n < inserted))
				remove(mapping, folio);
			else
				unmake(folio, 1);
		}
		cond_resched();
	}
	return err;
}

/*
 * Makes folios of claimed frames, charges them and puts them into the file. If that is shared
 * already, they are as well, a few at a time, and only bad memory is a reason to fail.
 *
 * Return: 0, or -errno and everything is as it was: -EDQUOT over the limit of the retriever's
 * cgroup.
 */
int lu_memfd_fill(struct file *file, const struct lu_memfd_run *runs, unsigned int nr, bool shared)
{
	if (!shared && fatal_signal_pending(current))
		return -EINTR;
	for (unsigned int i = 0; i < nr; i++)
		if (lu_any_poisoned(runs[i].pfn, runs[i].count << runs[i].order))
			return -EHWPOISON;
	if (!shared)
		return fill(file, runs, nr, false);
	for (unsigned int i = 0; i < nr; i++) {
		struct lu_memfd_run some = runs[i];
		u64 most = max(1, MUST_PAGES >> some.order), left = some.count;

		for (; left; left -= some.count) {
			some.count = min(left, most);
			fill(file, &some, 1, true);
			some.pfn += some.count << some.order;
			some.index += some.count << some.order;
		}
	}
	return 0;
}

/* Undoes lu_memfd_fill() for these folios, whose orders it fills in. */
void lu_memfd_take_back(struct file *file, struct lu_memfd_folio *folios, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		struct folio *folio = pfn_folio(folios[i].pfn);

		folios[i].order = folio_order(folio);
		remove(file->f_mapping, folio);
	}
	cond_resched();
}

static void publish(struct file *file, u64 pages)
{
	XA_STATE(xas, &file->f_mapping->i_pages, 0);
	struct going_out out = {};
	struct folio *folio;

	shmem_recalc_inode(file_inode(file), pages, 0);
	folio_batch_init(&out.batch);
	rcu_read_lock();
	xas_for_each(&xas, folio, ULONG_MAX) {
		/* Reclaim may be at those that were unlocked. */
		if (xas_retry(&xas, folio) || xa_is_value(folio))
			continue;
		if (let_out(&out, folio))
			continue;
		xas_pause(&xas);
		/* Its interrupts are off until then. */
		unlock_all(&out);
		rcu_read_unlock();
		cond_resched();
		rcu_read_lock();
	}
	unlock_all(&out);
	rcu_read_unlock();
}

/* -ENOSPC is transient here: -ENOMEM, after which retrieval can be retried. */
static int account_for(struct file *file, u64 pages)
{
	int err = shmem_inode_acct_blocks(file_inode(file), pages);

	return err == -ENOSPC ? -ENOMEM : err;
}

/*
 * All folios are there, @pages pages: accounts for them, and lets reclaim and everybody else have
 * them.
 *
 * Return: 0, or -errno and nothing has changed.
 */
int lu_memfd_publish(struct file *file, u64 pages)
{
	int err = account_for(file, pages);

	if (!err)
		publish(file, pages);
	return err;
}

/*
 * The retriever's cgroup is at its limit with @pages pages of @expected. If it can have as much in
 * swap as is to come, what is there is published, so that reclaim can take it. There is no way back
 * then.
 *
 * Return: 0, or -ENOMEM and nothing has changed.
 */
int lu_memfd_share(struct file *file, u64 pages, u64 expected)
{
	struct mem_cgroup *memcg = get_mem_cgroup_from_mm(current->mm);
	long room = mem_cgroup_get_nr_swap_pages(memcg);

	mem_cgroup_put(memcg);
	if (room < 0 || room < expected - pages || account_for(file, expected))
		return -ENOMEM;
	publish(file, pages);
	return 0;
}

/* All are there, and @left were accounted for in vain. */
void lu_memfd_come_out(struct file *file, u64 left)
{
	/* What is neither in memory nor in swap is given back. */
	shmem_recalc_inode(file_inode(file), left, 0);
}
