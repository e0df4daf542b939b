#!/bin/sh
# Installs what the tests on a second kernel need: QEMU, a static busybox,
# depmod, the programs that tell what is in force in a network, and Debian's
# kernel for clouds, which is unpacked under bin/vm and not installed. Where
# everything is there already it only looks.
#
#	sh test/vm/lab.sh                                 Debian's own kernel
#	sh test/vm/lab.sh linux-image-6.12-cloud-amd64    another one besides
set -eu
cd "$(dirname "$0")/../.."
meta="${1:-linux-image-cloud-amd64}"
dir=bin/vm/kernels

# again COMMAND…: mirrors are sometimes halfway through an update.
again() {
	for pause in 2 10 0; do
		"$@" && return
		sleep "$pause"
	done
	echo "lab: gave up on: $*" >&2
	return 1
}

export DEBIAN_FRONTEND=noninteractive
get() {
	again apt-get -qq \
		-o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 -o APT::Sandbox::User=root \
		-o Dpkg::Use-Pty=0 "$@" </dev/null >/dev/null
}

missing=
has() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null || missing="$missing $2"; }
has qemu-system-x86_64 qemu-system-x86
has busybox busybox-static
has depmod kmod
has mkfs.ext4 e2fsprogs
has xz xz-utils
has ip iproute2
has tc iproute2
has nft nftables

if [ -z "$missing" ] && [ -e "$dir/$meta" ]; then
	exit 0
fi
get update || echo "lab: the lists of packages may be old" >&2
if [ -n "$missing" ]; then
	# shellcheck disable=SC2086 # a list of words
	get install --no-install-recommends $missing
fi

# The kernel that the name stands for today: it is unpacked beside its place,
# and moved there when it is whole.
package=$(apt-cache depends --important "$meta" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p')
if [ -z "$package" ]; then
	echo "lab: no package $meta that stands for a kernel" >&2
	exit 1
fi
version=${package#linux-image-}
if [ ! -e "$dir/$version" ]; then
	new=$dir/.new-$$
	trap 'rm -rf "$new"' EXIT
	mkdir -p "$new"
	(cd "$new" && get download "$package")
	dpkg -x "$new"/*.deb "$new/root"
	find "$new/root/lib/modules" -name '*.ko.xz' -exec xz -d {} +
	PATH="$PATH:/usr/sbin:/sbin" depmod -b "$new/root" "$version"
	mv -T "$new/root" "$dir/$version"
fi
ln -sfn "$version" "$dir/$meta"
