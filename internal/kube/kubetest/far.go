package kubetest

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

// FarNode makes a node that Simian does not run on. There is no machine behind
// it: what its kubelet would tell the API server of its pods, this does.
func (a *API) FarNode(t testing.TB) string {
	t.Helper()
	name := Name("far")
	a.MakeNode(t, name)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ctx.Err() == nil; n++ {
			if n%100 == 99 { // else its pods are taken for unready after a while
				_, _, _ = a.Try(http.MethodPatch, "/api/v1/nodes/"+name+"/status", ready())
			}
			a.tend(name)
			time.Sleep(50 * time.Millisecond)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return name
}

// MakeNode makes a node of which nobody tells anything.
func (a *API) MakeNode(t testing.TB, name string) {
	t.Helper()
	a.Make(t, "/api/v1/nodes", Object{"metadata": Object{"name": name}})
	a.Must(t, http.MethodPatch, "/api/v1/nodes/"+name+"/status", ready())
}

// ready is the status of a node that works.
func ready() Object {
	room := Object{"cpu": "64", "memory": "64Gi", "pods": "1000"}
	return Object{"status": Object{
		"capacity": room, "allocatable": room,
		"conditions": []any{Object{"type": "Ready", "status": "True", "reason": "Test", "lastHeartbeatTime": now(), "lastTransitionTime": now()}},
	}}
}

func now() string { return time.Now().UTC().Format(time.RFC3339) }

// tend does once what a kubelet does all the time: pods run, or are gone.
func (a *API) tend(node string) {
	_, list, err := a.Try(http.MethodGet, "/api/v1/pods?fieldSelector=spec.nodeName%3D"+node, nil)
	if err != nil {
		return
	}
	pods, _ := list["items"].([]any)
	for _, p := range pods {
		path := "/api/v1/namespaces/" + Text(p, "metadata", "namespace") + "/pods/" + Text(p, "metadata", "name")
		switch {
		case At(p, "metadata", "deletionTimestamp") != nil:
			_, _, _ = a.Try(http.MethodDelete, path, Object{"gracePeriodSeconds": 0, "preconditions": Object{"uid": At(p, "metadata", "uid")}})
		case Text(p, "status", "phase") == "Pending":
			_, _, _ = a.Try(http.MethodPatch, path+"/status", Object{"metadata": Object{"uid": At(p, "metadata", "uid")}, "status": running(p)})
		}
	}
}

func running(p any) Object {
	status := Object{"phase": "Running", "conditions": []any{Object{"type": "Ready", "status": "True", "lastTransitionTime": now()}}}
	var states []any
	containers, _ := At(p, "spec", "containers").([]any)
	for _, c := range containers {
		states = append(states, Object{
			"name": At(c, "name"), "image": At(c, "image"), "imageID": "", "ready": true, "restartCount": 0,
			"containerID": "containerd://" + Text(p, "metadata", "uid"), "state": Object{"running": Object{"startedAt": now()}},
		})
	}
	status["containerStatuses"] = states
	return status
}

// Workload makes a Deployment, StatefulSet, ReplicaSet or DaemonSet of pods on a
// node, and waits until as many run as it is to have.
func (a *API) Workload(t testing.TB, kind, namespace, name, node string, replicas int) {
	t.Helper()
	labels := Object{"app": name}
	spec := Object{"selector": Object{"matchLabels": labels}, "template": Object{"metadata": Object{"labels": labels}, "spec": PodSpec(node)}}
	if kind != "DaemonSet" {
		spec["replicas"] = replicas
	}
	if kind == "StatefulSet" {
		spec["podManagementPolicy"] = "Parallel"
	}
	a.Make(t, Collection(kind, namespace), Object{"metadata": Object{"name": name}, "spec": spec})
	Until(t, name+" runs", func() bool { return len(a.Running(t, namespace, name)) == replicas })
}

// Collection is where the objects of a kind are.
func Collection(kind, namespace string) string {
	names := map[string]string{
		"Deployment": "/apis/apps/v1/namespaces/NS/deployments", "StatefulSet": "/apis/apps/v1/namespaces/NS/statefulsets",
		"ReplicaSet": "/apis/apps/v1/namespaces/NS/replicasets", "DaemonSet": "/apis/apps/v1/namespaces/NS/daemonsets",
		"PodDisruptionBudget": "/apis/policy/v1/namespaces/NS/poddisruptionbudgets", "Pod": "/api/v1/namespaces/NS/pods",
		"Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/NS/roles", "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/NS/rolebindings",
		"ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles", "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
		"ServiceAccount": "/api/v1/namespaces/NS/serviceaccounts",
	}
	return strings.ReplaceAll(names[kind], "NS", namespace)
}

// PodSpec is of a pod of one container, on a node that the scheduler is not
// asked for; "" for any.
func PodSpec(node string) Object {
	spec := Object{
		"terminationGracePeriodSeconds": 2, "tolerations": []any{Object{"operator": "Exists"}},
		"containers": []any{Object{"name": "main", "image": "simian.test/pod:1", "imagePullPolicy": "Never", "args": []any{"8080"}}},
	}
	if node != "" {
		spec["nodeName"] = node
	}
	return spec
}

// Running lists the pods with the label app=NAME that run, by name.
func (a *API) Running(t testing.TB, namespace, name string) []Object {
	t.Helper()
	list := a.Must(t, http.MethodGet, Collection("Pod", namespace)+"?labelSelector=app%3D"+name, nil)
	var found []Object
	pods, _ := list["items"].([]any)
	for _, p := range pods {
		if Text(p, "status", "phase") == "Running" && At(p, "metadata", "deletionTimestamp") == nil && isReady(p) {
			found = append(found, p.(Object))
		}
	}
	return found
}

func isReady(p any) bool {
	conditions, _ := At(p, "status", "conditions").([]any)
	for _, c := range conditions {
		if Text(c, "type") == "Ready" {
			return Text(c, "status") == "True"
		}
	}
	return false
}
