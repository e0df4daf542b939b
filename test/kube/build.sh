#!/bin/sh
# Builds the programs of a real Kubernetes into bin/kube: five minutes from a cold
# cache, a second where they are there already.
set -eu
cd "$(dirname "$0")"
bin=$(cd ../.. && pwd)/bin/kube
version=v1.34.4
stamp="$version $(cat build.sh go.mod go.sum | cksum)"
if [ "$(cat "$bin/stamp" 2>/dev/null)" = "$stamp" ]; then
	exit 0
fi
mkdir -p "$bin"
set -- -trimpath -ldflags "-s -w \
	-X k8s.io/component-base/version.gitVersion=$version \
	-X k8s.io/component-base/version.gitMajor=1 \
	-X k8s.io/component-base/version.gitMinor=34"
export CGO_ENABLED=0
go build "$@" -o "$bin/pod" ./pod
go build "$@" -o "$bin/etcd" go.etcd.io/etcd/server/v3
for name in kube-apiserver kube-controller-manager kube-scheduler kubelet; do
	go build "$@" -o "$bin/$name" "k8s.io/kubernetes/cmd/$name"
done
echo "$stamp" >"$bin/stamp"
