/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The catalogue of formats in a bzImage, beside the kernel that is compressed: whoever has the file,
 * as the kernel that is to boot it has, finds it without unpacking.
 */
	.section .rodata, "a", %progbits
	.balign 8
	.incbin	".vmlinux.liveupdate.catalogue"
	.balign 8

	.section .note.GNU-stack, "", %progbits
