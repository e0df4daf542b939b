# Starts the node of with.sh, which reads this: an image, CNI, a containerd and a
# kubelet of our own. Its cgroups are below simian-kube-PID in every hierarchy.

# image makes an OCI image of one static program, and prints where it lies.
image() {
	root="$dir/image/root" blobs="$dir/image/oci/blobs/sha256"
	mkdir -p "$root/tmp" "$blobs"
	cp "$bin/pod" "$root/pod"
	tar -C "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$dir/image/layer" .
	layer=$(sha256sum <"$dir/image/layer" | cut -d' ' -f1)
	config="{\"architecture\":\"$(go env GOARCH)\",\"os\":\"linux\",\"config\":{\"Entrypoint\":[\"/pod\"]},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:$layer\"]}}"
	digest=$(printf %s "$config" | sha256sum | cut -d' ' -f1)
	manifest="{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"sha256:$digest\",\"size\":${#config}},\"layers\":[{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"sha256:$layer\",\"size\":$(wc -c <"$dir/image/layer")}]}"
	of=$(printf %s "$manifest" | sha256sum | cut -d' ' -f1)
	mv "$dir/image/layer" "$blobs/$layer"
	printf %s "$config" >"$blobs/$digest"
	printf %s "$manifest" >"$blobs/$of"
	printf %s '{"imageLayoutVersion":"1.0.0"}' >"$dir/image/oci/oci-layout"
	printf %s "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:$of\",\"size\":${#manifest},\"annotations\":{\"io.containerd.image.name\":\"simian.test/pod:1\",\"org.opencontainers.image.ref.name\":\"1\"}}]}" >"$dir/image/oci/index.json"
	tar -C "$dir/image/oci" -cf "$dir/image.tar" .
}
image

for hierarchy in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do
	[ ! -f "$hierarchy" ] || mkdir -p "$(dirname "$hierarchy")/$group/pods"
done
cpuset=/sys/fs/cgroup/cpuset
if [ -d "$cpuset/$group" ]; then # on v1 a new one has no processors
	for at in "$group" "$group/pods"; do
		cat "$cpuset/cpuset.cpus" >"$cpuset/$at/cpuset.cpus"
		cat "$cpuset/cpuset.mems" >"$cpuset/$at/cpuset.mems"
	done
fi
for at in /var/log /var/lib/kubelet /var/lib/cni /run/containerd /run/flannel /opt /etc/cni; do # of ours alone, in this mount namespace
	[ ! -d "$at" ] || mount -t tmpfs tmpfs "$at"
done
mkdir -p "$dir/cni" "$dir/pods" /var/log/containers
echo 1 >/proc/sys/net/ipv4/ip_forward
cat >"$dir/cni/10-bridge.conflist" <<EOF
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": false,
   "ipam": {"type": "host-local", "dataDir": "$dir/ipam", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
EOF
cat >"$dir/containerd.toml" <<EOF
version = 2
root = "$dir/containerd"
state = "$dir/containerd.run"
[grpc]
  address = "$dir/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "simian.test/pod:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/cni"
EOF
start containerd containerd --config "$dir/containerd.toml" --log-level warn
export CONTAINERD_ADDRESS="$dir/containerd.sock" CONTAINER_RUNTIME_ENDPOINT="unix://$dir/containerd.sock"
answers "containerd does not come up" containerd ctr --namespace k8s.io version
ctr --namespace k8s.io images import "$dir/image.tar" >"$dir/image.log" 2>&1 || fail "the image can't be imported" image

cat >"$dir/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupRoot: /$group/pods
cgroupsPerQOS: true
containerRuntimeEndpoint: unix://$dir/containerd.sock
enforceNodeAllocatable: []
evictionHard: {memory.available: 1Mi, nodefs.available: 1Mi, imagefs.available: 1Mi}
failSwapOn: false
healthzPort: 0
imageGCHighThresholdPercent: 100
makeIPTablesUtilChains: false
podLogsDir: $dir/pods
readOnlyPort: 0
resolvConf: ""
volumePluginDir: $dir/plugins
EOF
start kubelet "$bin/kubelet" --config "$dir/kubelet.yaml" --kubeconfig "$dir/kubelet.conf" --root-dir "$dir/kubelet" \
	--cert-dir "$dir/kubelet-pki" --hostname-override here --node-ip 127.0.0.1
ready() {
	api https://127.0.0.1:6443/api/v1/nodes/here | tr -d ' \n' | grep -q '"type":"Ready","status":"True"\|"status":"True",[^}]*"reason":"KubeletReady"'
}
answers "the node does not become ready" kubelet ready
