package faults

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube"
	"github.com/simianhq/simian/internal/kube/kubetest"
	"github.com/simianhq/simian/internal/runtime"
	"github.com/simianhq/simian/targets"
	podtargets "github.com/simianhq/simian/targets/pod"
)

// cluster is where the pods of subjects are: a namespace of a real Kubernetes,
// and a peer in it that all of them have.
type cluster struct {
	api             *kubetest.API
	node, namespace string
	dir             string // of the peer
	peer, address   string
	selectors       experiment.Catalog[experiment.Selector]
}

// pods are Kubernetes' subjects. Its clients connect once something asks.
var pods = newCluster()

func newCluster() *cluster {
	return &cluster{selectors: targets.Kubernetes(podtargets.Env{FS: host, Kube: kube.New(), Local: runtime.NewCRI()})}
}

// connect makes the namespace and the peer, which go when the test ends.
func (c *cluster) connect(t testing.TB) {
	t.Helper()
	c.api = kubetest.Connect(t)
	c.node, c.namespace, c.dir = c.api.Node(t), c.api.Namespace(t, nil), t.TempDir()
	c.peer, c.address = c.start(t, c.dir)
}

// start makes a pod of the program with the folder that is shared with it, and
// waits until it runs.
func (c *cluster) start(t testing.TB, dir string) (name, address string) {
	t.Helper()
	name = kubetest.Name("pod")
	path := kubetest.Collection("Pod", c.namespace)
	c.api.Make(t, path, kubetest.Object{"metadata": kubetest.Object{"name": name, "labels": kubetest.Object{"app": name}}, "spec": c.spec(t, dir)})
	t.Cleanup(func() { c.end(t, path+"/"+name) })
	kubetest.Until(t, "the pod "+name+" runs", func() bool {
		if now := c.api.Running(t, c.namespace, name); len(now) == 1 {
			address = kubetest.Text(now[0], "status", "podIP")
		}
		return address != ""
	})
	return name, address
}

// spec is of a pod limited as the containers of a lab are. Its container can't
// have a limit of pids: Kubernetes knows none but the node's for each pod.
func (c *cluster) spec(t testing.TB, dir string) kubetest.Object {
	t.Helper()
	file, err := program()
	must(t, err)
	type o = kubetest.Object
	spec := kubetest.PodSpec(c.node)
	spec["restartPolicy"], spec["automountServiceAccountToken"], spec["terminationGracePeriodSeconds"] = "Always", false, 1
	spec["volumes"] = []any{
		o{"name": "program", "hostPath": o{"path": file, "type": "File"}},
		o{"name": "shared", "hostPath": o{"path": dir, "type": "Directory"}},
		o{"name": "data", "emptyDir": o{}},
		o{"name": "scratch", "emptyDir": o{"medium": "Memory", "sizeLimit": "16Mi"}},
	}
	spec["containers"] = []any{o{
		"name": "main", "image": "simian.test/pod:1", "imagePullPolicy": "Never",
		"command":   []any{"/subject", "serve", "/shared", ":7001", ":7002"},
		"resources": o{"limits": o{"cpu": "1", "memory": "64Mi"}, "requests": o{"cpu": "1m", "memory": "1Mi"}},
		"volumeMounts": []any{
			o{"name": "program", "mountPath": "/subject", "readOnly": true},
			o{"name": "shared", "mountPath": "/shared"},
			o{"name": "data", "mountPath": "/data"},
			o{"name": "scratch", "mountPath": "/scratch"},
		},
	}}
	return spec
}

// end has the node take a pod down. Its kubelet has it deleted when all of it is
// gone: one that is deleted at once may be started again meanwhile.
func (c *cluster) end(t testing.TB, path string) {
	t.Helper()
	c.api.Must(t, http.MethodDelete, path, kubetest.Object{"gracePeriodSeconds": 1})
	kubetest.Until(t, path+" is gone", func() bool { return c.api.Get(t, path) == nil })
}

// startPod starts the subject as a pod. The peer is the same for all.
func (s *subject) startPod(t testing.TB) {
	t.Helper()
	s.dir, s.peer = filepath.Join(s.base, "web"), pods.dir
	must(t, os.Mkdir(s.dir, 0o755))
	name, address := pods.start(t, s.dir)
	s.pick = "type: pod, namespace: " + pods.namespace + ", names: " + name
	s.words = map[string]string{
		"$PEER": pods.address, "$SELF": address, "$PORT": "7001", "$WEB": "7002",
		"$DATA": "/data", "$SCRATCH": "/scratch", "$SUBJECT": "/subject",
		"$TO": "type: pod, namespace: " + pods.namespace + ", names: " + pods.peer,
	}
	s.answers(t)
	s.feels(t, "at first", dials("udp"), "answered") // a link takes a moment
}
