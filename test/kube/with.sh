#!/bin/sh
# Runs a command beside a real Kubernetes of its own: etcd, API server, controller
# manager, scheduler, and a node (kubelet on a containerd of its own, with CNI).
# All of them, and the command, stand in network and mount namespaces made for
# them, and in cgroups called simian-kube-PID: nothing on the host's network or in
# its folders changes, and all is gone with the command.
#
#	sh test/kube/with.sh go test ./internal/kube          # with a node
#	NODE=no sh test/kube/with.sh go test ./internal/kube  # the control plane alone
#
# The command finds KUBECONFIG (of an administrator), CONTAINER_RUNTIME_ENDPOINT,
# and SIMIAN_KUBE_DIR: logs, certificates, and NAME.pid and NAME.sh of the API server
# and the controller manager, which tests kill and start anew.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "$here/../.." && pwd)/bin/kube
if [ "${SIMIAN_KUBE_INSIDE:-}" != "$$" ]; then
	sh "$here/build.sh"
	export SIMIAN_KUBE_INSIDE="$$"
	exec unshare --net --mount --propagation private sh "$here/with.sh" "$@"
fi

dir=$(mktemp -d /tmp/simian-kube-XXXXXX)
group=simian-kube-$$
unified=/sys/fs/cgroup
[ -f $unified/cgroup.procs ] || unified=/sys/fs/cgroup/unified
mkdir -p "$unified/$group/daemons"

# groups lists our cgroups, in every hierarchy, the lowest first.
groups() {
	for at in /sys/fs/cgroup/*/"$group" /sys/fs/cgroup/"$group"; do
		[ ! -d "$at" ] || find "$at" -depth -type d
	done
}

# finish kills what is in our cgroups, daemons and pods alike, and takes the
# cgroups away. Mounts, links and rules go with their namespaces.
finish() {
	tries=100
	while left=$(groups) && [ -n "$left" ] && [ "$tries" -gt 0 ]; do
		tries=$((tries - 1))
		for at in $left; do
			[ ! -f "$at/freezer.state" ] || echo THAWED >"$at/freezer.state"
			for pid in $(cat "$at/cgroup.procs" 2>/dev/null); do
				kill -KILL "$pid" 2>/dev/null || true
			done
			rmdir "$at" 2>/dev/null || true
		done
		[ "$tries" = 99 ] || sleep 0.1
	done
	[ -z "$left" ] || echo "with.sh: left $left" >&2
	awk -v dir="$dir/" 'index($5, dir) == 1 {print $5}' /proc/self/mountinfo | sort -r | while read -r mount; do
		umount -l "$mount" 2>/dev/null || true
	done
	[ -z "${SIMIAN_KUBE_KEEP:-}" ] || { echo "with.sh: kept $dir" >&2; return; }
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# fail says what went wrong, with the end of a daemon's log.
fail() {
	echo "with.sh: $1:" >&2
	tail -n 20 "$dir/$2.log" >&2
	exit 1
}

# start starts a daemon in our cgroup. Its pid is in $pid.
start() {
	name=$1
	shift
	sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$unified/$group/daemons" "$@" >"$dir/$name.log" 2>&1 &
	pid=$!
}

# answers waits until a command succeeds.
answers() {
	what=$1 log=$2
	shift 2
	tries=600
	until "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || fail "$what" "$log"
		sleep 0.1
	done
}

token() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# kubeconfig writes the file $1 for who bears the token $2.
kubeconfig() {
	cat >"$1" <<EOF
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://127.0.0.1:6443", certificate-authority: $dir/pki/apiserver.crt}}]
users: [{name: user, user: {token: $2}}]
contexts: [{name: test, context: {cluster: test, user: user}}]
current-context: test
EOF
}

# api asks the API server, as the administrator.
api() {
	curl --silent --fail --cacert "$dir/pki/apiserver.crt" -H "Authorization: Bearer $admin" "$@"
}

ip link set lo up
admin=$(token) manager=$(token) scheduler=$(token) kubelet=$(token)
umask 022 # $dir is for root alone; cgroups, and what a test builds, are for helpers that are not root, too
cat >"$dir/tokens.csv" <<EOF
$admin,admin,admin,system:masters
$manager,system:kube-controller-manager,manager
$scheduler,system:kube-scheduler,scheduler
$kubelet,system:node:here,kubelet,system:nodes
EOF
openssl genrsa -out "$dir/accounts.key" 2048 2>/dev/null
kubeconfig "$dir/admin.conf" "$admin"
kubeconfig "$dir/manager.conf" "$manager"
kubeconfig "$dir/scheduler.conf" "$scheduler"
kubeconfig "$dir/kubelet.conf" "$kubelet"

start etcd "$bin/etcd" --data-dir "$dir/etcd" --unsafe-no-fsync --log-level error \
	--listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
	--listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
	--initial-cluster default=http://127.0.0.1:2380
cat >"$dir/apiserver.sh" <<EOF
exec "$bin/kube-apiserver" --etcd-servers http://127.0.0.1:2379 --cert-dir "$dir/pki" \
	--bind-address 127.0.0.1 --advertise-address 127.0.0.1 --secure-port 6443 \
	--authorization-mode Node,RBAC --token-auth-file "$dir/tokens.csv" --allow-privileged \
	--service-account-issuer https://simian.test --service-account-key-file "$dir/accounts.key" \
	--service-account-signing-key-file "$dir/accounts.key" --service-cluster-ip-range 10.96.0.0/16 \
	--endpoint-reconciler-type none --disable-admission-plugins ServiceAccount
EOF
start apiserver sh "$dir/apiserver.sh"
echo "$pid" >"$dir/apiserver.pid"
answers "the API server does not come up" apiserver api https://127.0.0.1:6443/readyz
cat >"$dir/manager.sh" <<EOF
exec "$bin/kube-controller-manager" --kubeconfig "$dir/manager.conf" --bind-address 127.0.0.1 \
	--leader-elect=false --use-service-account-credentials --service-account-private-key-file "$dir/accounts.key" \
	--root-ca-file "$dir/pki/apiserver.crt"
EOF
start manager sh "$dir/manager.sh"
echo "$pid" >"$dir/manager.pid"
start scheduler "$bin/kube-scheduler" --kubeconfig "$dir/scheduler.conf" --bind-address 127.0.0.1 --leader-elect=false

export KUBECONFIG="$dir/admin.conf" SIMIAN_KUBE_DIR="$dir" SIMIAN_KUBE_GROUP="$unified/$group/daemons"
if [ "${NODE:-yes}" = yes ]; then
	. "$here/node.sh"
fi
umask 022 # what is built here may be run by others: helpers are nobody
"$@"
