package runtime

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// Containerd is a containerd, asked over its own socket.
type Containerd struct {
	socket string
	space  string // the namespace that the environment names, else containerd's default
	fs     proc.FS

	mu     sync.Mutex
	client *client.Client
}

// defaultContainerd is where containerd listens (containerd(8)).
const defaultContainerd = "/run/containerd/containerd.sock"

// Containerd returns the containerd that CONTAINERD_ADDRESS names, else the
// usual one.
func (c *Clients) Containerd() *Containerd {
	socket := c.getenv("CONTAINERD_ADDRESS")
	if socket == "" {
		socket = defaultContainerd
	}
	return c.containerdAt(strings.TrimPrefix(socket, "unix://"))
}

func (c *Clients) containerdAt(socket string) *Containerd {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.containerd[socket] == nil {
		space := c.getenv("CONTAINERD_NAMESPACE")
		if space == "" {
			space = namespaces.Default
		}
		c.containerd[socket] = &Containerd{socket: socket, space: space, fs: proc.Host()}
	}
	return c.containerd[socket]
}

// Namespace is the one that is meant where none is named.
func (c *Containerd) Namespace() string { return c.space }

// connect returns the client, which is made at first: gRPC would wait for a
// socket that nobody serves, so that is looked at before.
func (c *Containerd) connect(ctx context.Context) (*client.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil {
		return c.client, nil
	}
	if err := answers(ctx, c.socket); err != nil {
		return nil, unreachable("containerd", c.socket, "CONTAINERD_ADDRESS names another one", err)
	}
	made, err := client.New(c.socket, client.WithTimeout(2*time.Second))
	if err != nil {
		return nil, unreachable("containerd", c.socket, "CONTAINERD_ADDRESS names another one", err)
	}
	c.client = made
	return made, nil
}

// answers tells whether somebody listens on a socket.
func answers(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (c *Containerd) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case cerrdefs.IsNotFound(err):
		return fmt.Errorf("containerd says: %w: %w", err, experiment.ErrGone)
	}
	return fmt.Errorf("ask containerd at %s: %w", c.socket, err)
}

// Namespaces lists the namespaces that there are.
func (c *Containerd) Namespaces(ctx context.Context) ([]string, error) {
	made, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	list, err := made.NamespaceService().List(ctx)
	slices.Sort(list)
	return list, c.explain(err)
}

// Containers returns all containers of a namespace, running or not: two
// questions for all of them. Sandboxes of pods, which only hold namespaces, are
// left out.
func (c *Containerd) Containers(ctx context.Context, space string) ([]Container, error) {
	made, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(ctx, space), askFor)
	defer cancel()
	list, err := made.ContainerService().List(ctx)
	if err != nil {
		return nil, c.explain(err)
	}
	running, err := made.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, c.explain(errgrpc.ToNative(err))
	}
	of := map[string]*task.Process{}
	for _, t := range running.Tasks {
		of[t.ID] = t
	}
	found := make([]Container, 0, len(list))
	for _, one := range list {
		if one.Labels[kindLabel] != sandboxKind {
			found = append(found, c.container(space, one, of[one.ID], experiment.RuntimeRef{}))
		}
	}
	return found, nil
}

// container puts together what containerd keeps of a container and what it runs
// of it: t is nil where that is nothing. Planned is what it was when it was
// found before.
func (c *Containerd) container(space string, one containers.Container, t *task.Process, planned experiment.RuntimeRef) Container {
	found := Container{
		Ref:  experiment.RuntimeRef{Runtime: ContainerdName, ID: one.ID, Address: c.socket, Namespace: space, Restart: monitored(one.Labels)},
		Name: nameOf(one), Labels: one.Labels, State: "without a task", Pod: one.Labels[podLabel],
	}
	found.Ref.NoStart = keptBy(space, found)
	if t != nil {
		found.State = strings.ToLower(t.Status.String())
		found.Running = t.Status == task.Status_RUNNING || t.Status == task.Status_PAUSED || t.Status == task.Status_PAUSING
		found.PID = int(t.Pid)
	}
	found.Ref.Started = c.started(found, planned)
	return found
}

// started tells one life of a container from another: containerd has no such
// time, so it is the identity of its first process. One that has ended is the
// one planned unless its pid says otherwise.
func (c *Containerd) started(now Container, planned experiment.RuntimeRef) string {
	if now.Running {
		if st, err := c.fs.Stat(now.PID); err == nil {
			return fmt.Sprintf("%d:%d", now.PID, st.Start)
		}
		return fmt.Sprintf("%d:", now.PID)
	}
	if now.PID == 0 || strings.HasPrefix(planned.Started, fmt.Sprintf("%d:", now.PID)) {
		return planned.Started
	}
	return fmt.Sprintf("%d:", now.PID)
}

// Inspect implements daemon.
func (c *Containerd) Inspect(ctx context.Context, r experiment.RuntimeRef) (Container, error) {
	made, err := c.connect(ctx)
	if err != nil {
		return Container{}, err
	}
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(ctx, r.Namespace), askFor)
	defer cancel()
	one, err := made.ContainerService().Get(ctx, r.ID)
	if err != nil {
		return Container{}, c.explain(err)
	}
	var t *task.Process
	got, err := made.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: r.ID})
	if err = errgrpc.ToNative(err); err == nil {
		t = got.Process
	} else if !cerrdefs.IsNotFound(err) {
		return Container{}, c.explain(err)
	}
	return c.container(r.Namespace, one, t, r), nil
}
