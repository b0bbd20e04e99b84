// SPDX-License-Identifier: GPL-2.0
	/* liveupdate-rs begin: what is preserved is not reserved yet */
	if (memtest_pattern && is_kho_boot()) {
		pr_err("memtest: skipped, as it would overwrite what was handed over\n");
		return;
	}
	/* liveupdate-rs end */
