// SPDX-License-Identifier: GPL-2.0
/*
 * What rust/kernel/liveupdate.rs calls and has no binding of its own: inline functions, and one
 * that is in no header. The integrator makes it rust/helpers/liveupdate.c.
 */

#include <linux/io.h>
#include <linux/liveupdate.h>
#include <linux/mm.h>

#ifdef CONFIG_LIVEUPDATE

/* Ours, of kernel/liveupdate/rust; include/linux/liveupdate.h stays as it is. */
bool liveupdate_file_is_preserved(struct file *file);
int lu_luo_register_version(struct liveupdate_file_handler *handler,
			    int (*convert)(struct liveupdate_file_op_args *args, u32 from),
			    const void *family);

__rust_helper int
rust_helper_liveupdate_register_version(struct liveupdate_file_handler *handler,
					int (*convert)(struct liveupdate_file_op_args *, u32),
					const void *family)
{
	return lu_luo_register_version(handler, convert, family);
}

__rust_helper bool rust_helper_liveupdate_file_is_preserved(struct file *file)
{
	return liveupdate_file_is_preserved(file);
}

__rust_helper phys_addr_t rust_helper_virt_to_phys(void *address)
{
	return virt_to_phys(address);
}

__rust_helper void *rust_helper_folio_address(const struct folio *folio)
{
	return folio_address(folio);
}

__rust_helper size_t rust_helper_folio_size(const struct folio *folio)
{
	return folio_size(folio);
}

__rust_helper void rust_helper_folio_put(struct folio *folio)
{
	folio_put(folio);
}

/* For tests: the folio of memory from kho_alloc_preserve(). */
__rust_helper struct folio *rust_helper_phys_folio(phys_addr_t phys)
{
	return pfn_folio(PHYS_PFN(phys));
}

#endif
