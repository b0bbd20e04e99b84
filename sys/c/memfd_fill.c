// SPDX-License-Identifier: GPL-2.0
/*
 * memfds after the kexec: claimed frames become folios of a file that nobody else knows yet, a
 * batch a call, and frames that wait again when the rest of the file cannot be had.
 */
#include <linux/mm.h>

#include <linux/file.h>
#include <linux/huge_mm.h>
#include <linux/kstrtox.h>
#include <linux/memcontrol.h>
#include <linux/memfd.h>
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

/* Folios that are added to the LRU lists under one hold of a lock. */
#define LRU_BATCH 64

unsigned int lu_memfd_max_order(void)
{
	return MAX_PAGECACHE_ORDER;
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

/* A memfd of this kernel, empty. The mode comes first: what a seal implies depends on it. */
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
	file_inode(file)->i_mode = (file_inode(file)->i_mode & ~07777) | about->mode;
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

/* Frames of a run become folios with one reference each, that are in no file. */
static void make(const struct lu_memfd_run *run)
{
	unsigned long filled = run->filled ? BIT(PG_uptodate) | BIT(PG_dirty) : 0;
	struct page *page = pfn_to_page(run->pfn);

	if (!run->order) {
		for (u64 i = 0; i < run->count; i++, page++) {
			page->flags.f = (page->flags.f & ~BIT(PG_reserved)) | BIT(PG_swapbacked) |
					filled;
			set_page_count(page, 1);
			clear_page_tag_ref(page);
		}
	} else {
		for (u64 i = 0; i < run->count; i++) {
			struct folio *folio = lu_make_folio(run->pfn + (i << run->order),
							    run->order);

			folio->flags.f |= BIT(PG_swapbacked) | filled;
		}
	}
	lu_account(run->pfn, run->count << run->order);
}

/* The other way: reserved frames, as the boot made them. */
static void unmake(struct folio *folio)
{
	unsigned int order = folio_order(folio);
	struct page *page = &folio->page;
	unsigned long i;

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
		set_page_count(page + i, 1);
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
static u64 charge(const struct lu_memfd_run *run)
{
	u64 i;

	for (i = 0; i < run->count; i++)
		if (mem_cgroup_charge(nth(run, i), NULL, CHARGE_GFP))
			break;
	return i;
}

/*
 * Puts folios of a run into the page cache, which takes over their reference. Returns how many
 * could be.
 */
static u64 insert(struct address_space *mapping, const struct lu_memfd_run *run)
{
	XA_STATE_ORDER(xas, &mapping->i_pages, run->index, run->order);
	unsigned long nr = 1UL << run->order, counted = 0;
	struct folio *like = nth(run, 0);
	u64 i = 0;

	do {
		xas_lock_irq(&xas);
		while (i < run->count) {
			struct folio *folio = nth(run, i);

			xas_store(&xas, folio);
			if (xas_error(&xas))
				break;
			folio->mapping = mapping;
			folio->index = run->index + i * nr;
			if (run->order)
				folio_ref_add(folio, nr - 1);
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
	} while (xas_nomem(&xas, CHARGE_GFP));
	count(like, counted);
	return i;
}

/* Takes a folio out of the file; the caller has its only reference then. */
static void remove(struct address_space *mapping, struct folio *folio)
{
	folio_get(folio);
	xa_lock_irq(&mapping->i_pages);
	__folio_set_locked(folio);
	__filemap_remove_folio(folio, NULL);
	__folio_clear_locked(folio);
	xa_unlock_irq(&mapping->i_pages);
	folio_put_refs(folio, folio_nr_pages(folio));
}

/*
 * Makes folios of claimed frames, charges them and puts them into the file.
 *
 * Return: 0, or -errno and everything is as it was.
 */
int lu_memfd_fill(struct file *file, const struct lu_memfd_run *runs, unsigned int nr)
{
	struct address_space *mapping = file->f_mapping;
	u64 inserted = 0, charged = 0;
	unsigned int made, in = 0, paid = 0;
	struct mem_cgroup *memcg, *old;
	int err = -ENOMEM;

	cond_resched();
	if (fatal_signal_pending(current))
		return -EINTR;
	for (made = 0; made < nr; made++)
		if (lu_any_poisoned(runs[made].pfn, runs[made].count << runs[made].order))
			return -EHWPOISON;
	for (made = 0; made < nr; made++)
		make(&runs[made]);
	/* Contents are there before anybody sees PG_uptodate. */
	smp_wmb();

	memcg = get_mem_cgroup_from_mm(current->mm);
	old = set_active_memcg(memcg);
	for (; paid < nr; paid++) {
		charged = charge(&runs[paid]);
		if (charged < runs[paid].count)
			goto undo;
	}
	for (; in < nr; in++) {
		inserted = insert(mapping, &runs[in]);
		if (inserted < runs[in].count)
			goto undo;
	}
	err = 0;
undo:
	set_active_memcg(old);
	mem_cgroup_put(memcg);
	for (unsigned int i = 0; err && i < nr; i++) {
		for (u64 n = 0; n < runs[i].count; n++) {
			struct folio *folio = nth(&runs[i], n);

			if (i < in || (i == in && n < inserted))
				remove(mapping, folio);
			if (i < paid || (i == paid && n < charged))
				mem_cgroup_uncharge(folio);
			unmake(folio);
		}
	}
	return err;
}

/* Undoes lu_memfd_fill() for these folios, whose orders it fills in. */
void lu_memfd_take_back(struct file *file, struct lu_memfd_folio *folios, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		struct folio *folio = pfn_folio(folios[i].pfn);

		folios[i].order = folio_order(folio);
		remove(file->f_mapping, folio);
		mem_cgroup_uncharge(folio);
		unmake(folio);
	}
	cond_resched();
}

/*
 * All folios are there, @pages pages: accounts for them and lets reclaim see them.
 *
 * Return: 0, or -errno and nothing has changed.
 */
int lu_memfd_publish(struct file *file, u64 pages)
{
	struct address_space *mapping = file->f_mapping;
	XA_STATE(xas, &mapping->i_pages, 0);
	struct lruvec *lruvec = NULL;
	unsigned long flags = 0;
	unsigned int nr = 0;
	struct folio *folio;
	int err;

	err = shmem_inode_acct_blocks(file_inode(file), pages);
	/* -ENOSPC is transient here: report -ENOMEM, after which retrieval can be retried. */
	if (err)
		return err == -ENOSPC ? -ENOMEM : err;
	shmem_recalc_inode(file_inode(file), pages, 0);

	rcu_read_lock();
	xas_for_each(&xas, folio, ULONG_MAX) {
		/* Reclaim may be at those added before. */
		if (xas_retry(&xas, folio) || xa_is_value(folio))
			continue;
		folio_lruvec_relock_irqsave(folio, &lruvec, &flags);
		lruvec_add_folio(lruvec, folio);
		folio_set_lru(folio);
		if (++nr < LRU_BATCH)
			continue;
		nr = 0;
		lruvec_unlock_irqrestore(lruvec, flags);
		lruvec = NULL;
		xas_pause(&xas);
		rcu_read_unlock();
		cond_resched();
		rcu_read_lock();
	}
	if (lruvec)
		lruvec_unlock_irqrestore(lruvec, flags);
	rcu_read_unlock();
	return 0;
}

/* Claimed frames go to the page allocator, in the largest blocks it has. Bad ones stay out. */
void lu_free_waiting(u64 pfn, u64 pages)
{
	u64 end = pfn + pages;

	while (pfn < end) {
		unsigned int order = min_t(unsigned int, MAX_PAGE_ORDER, ilog2(end - pfn));
		struct page *page = pfn_to_page(pfn);

		if (pfn)
			order = min_t(unsigned int, order, __ffs64(pfn));
		if (lu_any_poisoned(pfn, 1ULL << order)) {
			if (order) {
				for (u64 i = 0; i < 1ULL << order; i++)
					lu_free_waiting(pfn + i, 1);
			}
		} else {
			for (u64 i = 0; i < 1ULL << order; i++) {
				__ClearPageReserved(page + i);
				set_page_count(page + i, !i);
				clear_page_tag_ref(page + i);
			}
			lu_account(pfn, 1L << order);
			__free_pages(page, order);
		}
		pfn += 1ULL << order;
	}
	cond_resched();
}
