# SPDX-License-Identifier: GPL-2.0
	# liveupdate-rs begin
	if is_enabled CONFIG_KEXEC_HANDOVER; then
		objs="${objs} .vmlinux.liveupdate.o"
	fi
	# liveupdate-rs end
