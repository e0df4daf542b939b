#!/bin/sh
# Installs what a node of Kubernetes needs, and builds Kubernetes. Where everything
# is there already it only looks.
set -eu
missing=
has() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null || missing="$missing $2"; }
has containerd containerd
has runc runc
has iptables iptables
has conntrack conntrack
has socat socat
has openssl openssl
has curl curl
has ip iproute2
[ -e /usr/lib/cni/bridge ] || missing="$missing containernetworking-plugins"
if [ -n "$missing" ]; then
	export DEBIAN_FRONTEND=noninteractive
	get() {
		apt-get -qq -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 -o APT::Sandbox::User=root \
			-o Dpkg::Use-Pty=0 "$@" </dev/null >/dev/null
	}
	get update || echo "lab: the lists of packages may be old" >&2
	# shellcheck disable=SC2086 # a list of words
	get install --no-install-recommends $missing
fi
sh "$(dirname "$0")/build.sh"
