#!/bin/sh
# Runs a command beside a containerd and a Docker of its own, which end with it.
# Docker stands in a network namespace of its own: nothing on the host's network
# changes.
#
#	sh test/docker/with.sh go test ./internal/image ./test/hostile
set -eu
dir=$(mktemp -d)
daemons=
finish() {
	for pid in $daemons; do
		kill "$pid" 2>/dev/null && wait "$pid" || true
	done
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

export CONTAINERD_ADDRESS="$dir/containerd.sock" DOCKER_HOST="unix://$dir/docker.sock"
containerd --log-level error --root "$dir/containerd" --state "$dir/containerd.run" --address "$CONTAINERD_ADDRESS" \
	>"$dir/containerd.log" 2>&1 &
daemons="$!"
unshare --net dockerd --log-level error --data-root "$dir/docker" --exec-root "$dir/docker.run" --pidfile "$dir/docker.pid" \
	--containerd "$CONTAINERD_ADDRESS" --host "$DOCKER_HOST" >"$dir/docker.log" 2>&1 &
daemons="$! $daemons"

tries=300
until docker version >/dev/null 2>&1; do
	tries=$((tries - 1))
	if [ "$tries" = 0 ]; then
		echo "with.sh: Docker does not come up (make lab installs it):" >&2
		cat "$dir/containerd.log" "$dir/docker.log" >&2
		exit 1
	fi
	sleep 0.1
done
"$@"
