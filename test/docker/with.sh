#!/bin/sh
# Runs a command beside a containerd, a Docker and a Podman of its own, which
# end with it. Docker stands in a network namespace of its own: nothing on the
# host's network changes. Tests that are skipped for want of a runtime fail
# here: SIMIAN_DOCKER=1 says so.
#
#	sh test/docker/with.sh go test ./internal/image ./test/hostile
set -eu
dir=$(mktemp -d)
daemons=
finish() {
	for pid in $daemons; do
		kill "$pid" 2>/dev/null && wait "$pid" || true
	done
	for stage in $(awk -v dir="$dir/" '$2 ~ "^" dir { print $2 }' /proc/mounts | sort -r); do
		umount -l "$stage" 2>/dev/null || true # a container that outlived its test
	done
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

export SIMIAN_DOCKER=1 SIMIAN_DOCKER_PID="$dir/docker.pid"
export CONTAINERD_ADDRESS="$dir/containerd.sock" DOCKER_HOST="unix://$dir/docker.sock"
containerd --log-level error --root "$dir/containerd" --state "$dir/containerd.run" --address "$CONTAINERD_ADDRESS" \
	>"$dir/containerd.log" 2>&1 &
daemons="$!"
# The namespace's loopback is up, so that ports can be published at 127.0.0.1.
unshare --net sh -c 'ip link set lo up && exec "$@"' sh dockerd --log-level error --data-root "$dir/docker" --exec-root "$dir/docker.run" --pidfile "$dir/docker.pid" \
	--containerd "$CONTAINERD_ADDRESS" --host "$DOCKER_HOST" >"$dir/docker.log" 2>&1 &
daemons="$! $daemons"
# No registry, no systemd, and a runtime that bears a hybrid of cgroups.
mkdir "$dir/podman.tmp"
cat >"$dir/containers.conf" <<EOF
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
tmp_dir = "$dir/podman.tmp"
[containers]
log_driver = "k8s-file"
EOF
CONTAINERS_CONF="$dir/containers.conf" podman --log-level error --root "$dir/podman" --runroot "$dir/podman.run" --storage-driver overlay \
	system service --time 0 "unix://$dir/podman.sock" >"$dir/podman.log" 2>&1 &
daemons="$! $daemons"
export CONTAINER_HOST="unix://$dir/podman.sock" # with it, podman would be a client of another

tries=300
until docker version >/dev/null 2>&1 && docker -H "$CONTAINER_HOST" version >/dev/null 2>&1; do
	tries=$((tries - 1))
	if [ "$tries" = 0 ]; then
		echo "with.sh: Docker or Podman does not come up (make lab installs them):" >&2
		cat "$dir/containerd.log" "$dir/docker.log" "$dir/podman.log" >&2
		exit 1
	fi
	sleep 0.1
done
"$@"
