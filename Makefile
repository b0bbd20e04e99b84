# SPDX-License-Identifier: GPL-2.0
# The front door: what a person types. The work is done by two programs, kernel-tree and runner.

# Read by them, from here or from the environment.
export LINUX KVM KASAN

cargo := $(if $(shell command -v cargo),cargo,@echo "cargo is not installed; install a Rust toolchain (package cargo, or rustup) and run it again" >&2; exit 1;:)
tree := $(cargo) run --release -q -p kernel-tree --
packaging := $(cargo) run --release -q -p packaging --
runner := $(cargo) run --release -q -p runner --

.PHONY: help demo test bench interop install uninstall deb check docs kernel integrate unintegrate setup soak fuzz clean distclean

help:
	@echo "make demo               a live update from nothing: install, build, boot in QEMU, hand over 256 MiB, verify"
	@echo "make test               every test, on the host and in QEMU; KASAN=1 adds a kernel with the address sanitizer"
	@echo "make bench              what a handover costs, ours against mainline"
	@echo "make interop            ours, mainline 7.3 and mainline 7.2, from each to each: what goes across, as a table"
	@echo "make check              formatting, lints, license lines, warnings"
	@echo "make docs               rustdoc of all crates and the documents as HTML, into target/docs; warnings are errors"
	@echo "make kernel OUT=dir     our kernel as dir/{bzImage,vmlinux,config}; CONFIG=fragment puts your options on top"
	@echo "make integrate LINUX=tree, make unintegrate LINUX=tree"
	@echo "                        put our code into a Linux 7.3 tree, take it out again"
	@echo "make install PREFIX=dir installs luod, luoctl and formats, /usr/local unless said; DESTDIR for packagers"
	@echo "make uninstall          removes them again, with the same PREFIX and DESTDIR; the configuration stays"
	@echo "make deb                makes a Debian package of them"
	@echo "make setup              only install the packages and get the source"
	@echo "make soak UPDATES=n     flips every bit of a handover's metadata on the simulated machine (minutes), then"
	@echo "                        updates a machine n times in a row, 1000 unless said (hours)"
	@echo "make fuzz MINUTES=n     fuzzes what reads a handover, 10 minutes unless said"
	@echo "make clean, distclean   remove what was built; also what was downloaded"
	@echo "LINUX=tree uses your own Linux 7.3 tree; KVM=1 uses /dev/kvm instead of software emulation"

demo:
	@echo "The first time this takes about half an hour on two idle processors, most of it for a kernel; after that a minute."
	$(cargo) run --profile demo -q -p runner -- demo

test bench interop:
	$(runner) $@

install uninstall:
	$(packaging) $@ $(if $(PREFIX),--prefix "$(PREFIX)") $(if $(DESTDIR),--destdir "$(DESTDIR)")

deb:
	$(packaging) deb

check docs setup:
	$(tree) $@

soak:
	SOAK=1 $(cargo) test --release -p liveupdate flips -- --nocapture
	$(runner) soak --updates $(or $(UPDATES),1000)

fuzz:
	fuzz/run $(or $(MINUTES),10)

kernel:
	$(tree) kernel $(if $(CONFIG),--config "$(CONFIG)") $(if $(OUT),--out "$(OUT)")

integrate unintegrate:
	$(tree) $@ $(if $(LINUX),--linux "$(LINUX)")

clean:
	$(tree) clean

distclean:
	$(tree) clean --all
