#!/bin/sh
# Starts the service, breaks it, and stops it. Called by `make demo`, which
# builds both binaries first. PORT says where the service listens.
set -eu
cd "$(dirname "$0")/../.."
port=${PORT:-18080}
state=$(mktemp -d)

bin/quickstart serve --listen "127.0.0.1:$port" 2>"$state/service.log" &
service=$!
trap 'kill "$service" 2>/dev/null || :; wait "$service" 2>/dev/null || :; rm -rf "$state"' EXIT INT TERM HUP

# Simian itself waits until the service is steady; this only tells a port that
# is taken from a service that is slow.
sleep 0.3
if ! kill -0 "$service" 2>/dev/null; then
	cat "$state/service.log" >&2
	echo "the service did not start; say PORT=… make demo for another port" >&2
	exit 6
fi

set +e
bin/simian --state "$state/simian" run --set "port=$port" examples/quickstart/worker-killed.yaml
code=$?
echo
echo "what the service saw:"
sed 's/^/  /' "$state/service.log"
exit "$code"
