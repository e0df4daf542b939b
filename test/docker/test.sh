#!/bin/sh
# The tests that need Docker, Podman or containerd. What is skipped for want of
# one fails here. Run by with.sh.
set -eu
go test -count=1 -run 'Docker|Podman|Containerd' ./internal/image ./test/hostile ./cmd/simian
go test -count=1 -p 1 ./internal/runtime ./targets/docker ./targets/containerd
exec go test -count=1 -run '^TestFaults$/.*/.*/docker' ./test/faults
