package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/simianhq/simian/experiment"
)

// CRI finds the containers of this node's pods, as the kubelet does: by the
// Container Runtime Interface (k8s.io/cri-api, runtime.v1). Nothing is asked
// before it is needed.
type CRI struct {
	getenv func(string) string

	mu     sync.Mutex
	socket string
	client cri.RuntimeServiceClient
}

// NewCRI returns the client of the runtime that CONTAINER_RUNTIME_ENDPOINT
// names, else of the first that is there.
func NewCRI() *CRI { return &CRI{getenv: os.Getenv} }

// criSockets are where runtimes serve the interface (kubernetes.io, "Container
// Runtimes").
func criSockets() []string {
	return []string{"/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/cri-dockerd.sock", "/run/k3s/containerd/containerd.sock"}
}

// howCRI says how another runtime is named.
const howCRI = "CONTAINER_RUNTIME_ENDPOINT names another one"

func (c *CRI) connect(ctx context.Context) (cri.RuntimeServiceClient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil {
		return c.client, nil
	}
	socket := strings.TrimPrefix(c.getenv("CONTAINER_RUNTIME_ENDPOINT"), "unix://")
	if socket == "" {
		socket = firstSocket(criSockets()...)
	}
	if err := answers(ctx, socket); err != nil {
		return nil, unreachable("this node's container runtime", socket, howCRI, err)
	}
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		return nil, unreachable("this node's container runtime", socket, howCRI, err)
	}
	c.socket, c.client = socket, cri.NewRuntimeServiceClient(conn)
	return c.client, nil
}

func (c *CRI) explain(err error) error {
	switch status.Code(err) {
	case codes.OK:
		return nil
	case codes.NotFound:
		return fmt.Errorf("the runtime at %s says: %w: %w", c.socket, err, experiment.ErrGone)
	case codes.Unimplemented:
		return fmt.Errorf("the runtime at %s does not serve the CRI (%s): %w", c.socket, howCRI, experiment.ErrUnsupported)
	}
	return fmt.Errorf("ask this node's container runtime at %s: %w", c.socket, err)
}

// Containers returns the running containers of a pod on this node, by the pod's
// UID, each with its pid. A pod that is not on this node has none.
func (c *CRI) Containers(ctx context.Context, podUID string) ([]Container, error) {
	client, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	r, err := client.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{
		State:         &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING},
		LabelSelector: map[string]string{podLabel: podUID},
	}})
	if err != nil {
		return nil, c.explain(err)
	}
	found := make([]Container, 0, len(r.Containers))
	for _, one := range r.Containers {
		found = append(found, Container{Ref: experiment.RuntimeRef{ID: one.Id}, Labels: one.Labels, Pod: podUID})
	}
	return each(ctx, found, c.inspect)
}

// inspect reads the pid of a container, which is in what a runtime tells only
// when it is asked for all (crictl inspect reads it there too).
func (c *CRI) inspect(ctx context.Context, one Container) (Container, error) {
	r, err := c.client.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: one.Ref.ID, Verbose: true})
	if err != nil {
		return one, c.explain(err)
	}
	var info struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal([]byte(r.Info["info"]), &info); err != nil || info.PID == 0 {
		return one, fmt.Errorf("the runtime at %s does not tell the pid of container %s: %w", c.socket, Short(one.Ref.ID), experiment.ErrUnsupported)
	}
	s := r.Status
	one.PID, one.Running, one.State = info.PID, s.State == cri.ContainerState_CONTAINER_RUNNING, strings.ToLower(strings.TrimPrefix(s.State.String(), "CONTAINER_"))
	one.Name = s.GetMetadata().GetName()
	one.Started = timeOf(s.StartedAt)
	one.Ref.Runtime, one.Ref.Address, one.Ref.NoStart = ContainerdName, c.socket, keptByKubelet
	one.Ref.Namespace = "k8s.io"
	one.Ref.Started = fmt.Sprint(s.StartedAt)
	return one, nil
}
