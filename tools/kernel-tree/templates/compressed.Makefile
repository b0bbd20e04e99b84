# SPDX-License-Identifier: GPL-2.0
# liveupdate-rs begin
vmlinux-objs-$(CONFIG_KEXEC_HANDOVER) += $(obj)/liveupdate.o

$(obj)/liveupdate.o: $(srctree)/kernel/liveupdate/rust/luo/formats/build/image.S \
		.vmlinux.liveupdate.catalogue FORCE
	$(call if_changed_rule,as_o_S)
# liveupdate-rs end
