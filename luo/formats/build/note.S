/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The catalogue of formats as an ELF note of vmlinux: owner "LiveUpdate", type 1.
 *
 * The linker script puts it into .notes, which is loaded: the kernel reads its own catalogue there,
 * /sys/kernel/notes shows it, and images that are not compressed, such as arm64's Image, have it.
 */
	.section .note.liveupdate, "a", %note
	.balign 4
	.long	.Lowner_end - .Lowner
	.long	liveupdate_catalogue_end - liveupdate_catalogue
	.long	1
.Lowner:
	.asciz	"LiveUpdate"
.Lowner_end:
	.balign 4
	.globl	liveupdate_catalogue
liveupdate_catalogue:
	.incbin	".vmlinux.liveupdate.catalogue"
	.globl	liveupdate_catalogue_end
liveupdate_catalogue_end:
	.balign 4

	.section .note.GNU-stack, "", %progbits
