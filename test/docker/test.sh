#!/bin/sh
# The tests that need Docker, Podman or containerd, by the command TEST. What is
# skipped for want of one fails here. Run by with.sh.
set -eu
$TEST --packages './internal/image ./test/hostile ./cmd/simian' -- -count=1 -run 'Docker|Podman|Containerd'
$TEST --packages './internal/runtime ./targets/docker ./targets/containerd' -- -count=1 -p 1
exec $TEST --packages ./test/faults -- -count=1 -run '^TestFaults$/.*/.*/docker'
