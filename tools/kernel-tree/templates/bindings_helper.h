/* SPDX-License-Identifier: GPL-2.0 */
/* liveupdate-rs begin */
#ifdef CONFIG_KEXEC_HANDOVER
#include <linux/anon_inodes.h>
#include <linux/cma.h>
#include <linux/crash_dump.h>
#include <linux/kexec.h>
#include <linux/kexec_handover.h>
#include <linux/kho/abi/kexec_metadata.h>
#include <linux/kho/abi/luo.h>
#include <linux/kho/abi/memfd.h>
#include <linux/kho_array.h>
#include <linux/kho_block.h>
#include <linux/kho_radix_tree.h>
#include <linux/kho_slab.h>
#include <linux/kmemleak.h>
#include <linux/libfdt.h>
#include <linux/liveupdate.h>
#include <linux/memblock.h>
#include <linux/memfd.h>
#include <linux/page-isolation.h>
#include <linux/shmem_fs.h>
#include <asm/early_ioremap.h>
#include "../../mm/internal.h"
#include "../../mm/mm_init.h"
#include "../../mm/vmalloc.h"
#include "../../kernel/kexec_internal.h"
#endif
/* liveupdate-rs end */

