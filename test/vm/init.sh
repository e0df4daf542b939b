#!/bin/busybox sh
# PID 1 of the machine. It mounts what a host has, loads the modules, runs each
# test binary, or one command, and ends the machine.
#
# Tests know by SIMIAN_VM that they are in here.
#
# The kernel's messages go to ttyS0; ttyS1 is for what the tests print, between
# lines that begin with the mark below, which output.go reads.
export PATH=/simian/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8
export SHELL=/bin/sh USER=root SIMIAN_VM=1

# The kernel's first mount has no parent, so that pivot_root(2) refuses it, and
# with it every container. The same files mounted upon themselves are a root
# like any other.
if [ "$1" != root ]; then
	/bin/busybox mount -o bind / /root
	cd /root || exit 1
	/bin/busybox mount -o move . /
	exec /bin/busybox chroot . /init root
fi
cd /

/bin/busybox --install -s 2>/dev/null # what is there already stays
mount -t devtmpfs dev /dev
exec </dev/null >/dev/ttyS1 2>&1
stty raw -echo </dev/ttyS1
mkdir -p /dev/pts /dev/shm
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sys /sys
mount -t devpts -o gid=5,mode=620,ptmxmode=666 pts /dev/pts
for dir in /dev/shm /run; do
	mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$dir"
done
chmod 755 /run
mount -t securityfs security /sys/kernel/security
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate cgroup2 /sys/fs/cgroup
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
	echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
ln -sf /proc/self/fd /dev/fd
hostname vm
ip link set lo up

# As systemd does: nodes whose first use loads their module.
grep -v '^#' "/lib/modules/$(uname -r)/modules.devname" | tr : ' ' | while read -r _ node kind minor; do
	mkdir -p "/dev/$(dirname "$node")"
	mknod "/dev/$node" "$(echo "$kind" | cut -c1)" "${kind#?}" "$minor"
done
while read -r module; do
	/sbin/modprobe "$module" || printf '\036lost module %s\n' "$module"
done </lab/modules
mount -t ext4 /dev/vda /tmp || printf '\036lost disk\n'
chmod 1777 /tmp
mount --make-rshared / # as systemd does

# Tests run where a service would: in a leaf, neither in the root nor in its
# children's way.
service=/sys/fs/cgroup/system.slice/tests.service
mkdir -p $service

# state prints what the tests of a package must leave as it was, a line for
# each thing. The shop is built in its own folder, where git ignores it.
state() {
	sed 's/^/mount /' /proc/mounts
	ls /sys/class/net | sed 's/^/link /'
	find /sys/fs/cgroup -mindepth 1 -type d | sed 's/^/cgroup /'
	find /tmp /dev/shm /run /simian -path /simian/examples/shop/rootfs -prune -o -print | sed 's/^/file /'
	while read -r pid; do
		printf 'process %s %s\n' "$pid" "$(tr '\0' ' ' </proc/"$pid"/cmdline)"
	done <$service/cgroup.procs
} 2>/dev/null

# new prints what was not there before. What is about to go gets a second.
new() {
	for _ in 1 2 3 4 5; do
		state >/lab/after
		grep -vxFf /lab/before /lab/after >/lab/new || return
		sleep 0.2
	done
	cat /lab/new
}

# inside runs a command as a service, in a folder.
inside() {
	/bin/sh -c 'echo $$ >"$0/cgroup.procs" && cd "$1" && shift && "$@"; exit $?' "$service" "$@"
}

# tests runs the tests of one package.
tests() {
	{
		state
		printf 'file %s\n' /run/simian /run/simian/locks # which simian makes, and leaves
	} >/lab/before
	printf '\036begin %s\n' "$1"
	inside "$2" ./vm.test -test.v -test.short -test.timeout=50m \
		"-test.run=$(cat /lab/run)" "-test.skip=$(cat /lab/skip)"
	code=$?
	new | while read -r left; do
		printf '\n\036left %s' "$left"
	done
	printf '\n\036end %s %d\n' "$1" "$code"
	echo 1 >$service/cgroup.kill
}

# program runs the command that is to run instead, with its output on the port
# that is for it, where there is one.
program() {
	out=/dev/ttyS1
	for name in /sys/class/virtio-ports/*/name; do
		[ ! -e "$name" ] || out=/dev/$(basename "$(dirname "$name")")
	done
	printf '\036run\n'
	inside /simian /bin/sh /lab/exec >"$out"
	printf '\036ran %d\n' $?
}

printf '\036boot %s %s\n' "$(uname -r)" "$(cat /sys/fs/cgroup/cgroup.controllers)"
( # a process between init and the tests' parent, as on a host
	while read -r pkg dir; do
		tests "$pkg" "$dir"
	done </lab/tests
	[ ! -e /lab/exec ] || program
)
printf '\036done\n'
sync
poweroff -f
