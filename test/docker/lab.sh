#!/bin/sh
# Installs Docker, containerd and the runtimes that tests and benchmarks compare
# with. Where everything is there already it only looks.
set -eu
missing=
has() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null || missing="$missing $2"; }
has dockerd docker.io
has containerd containerd
has iptables iptables
has runc runc
has crun crun
has podman podman
has docker-compose docker-compose
has bwrap bubblewrap
has stress-ng stress-ng
[ -n "$missing" ] || exit 0

export DEBIAN_FRONTEND=noninteractive
get() {
	apt-get -qq -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 -o APT::Sandbox::User=root \
		-o Dpkg::Use-Pty=0 "$@" </dev/null >/dev/null
}
get update || echo "lab: the lists of packages may be old" >&2
# shellcheck disable=SC2086 # a list of words
get install --no-install-recommends $missing
