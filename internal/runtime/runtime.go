// Package runtime asks the container runtimes of this host what they run, and
// has them do what only they can: stop, start, remove. Everything else is done
// to the processes, namespaces and cgroups that a container is made of.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// The runtimes, as files and journals call them.
const (
	DockerName     = "docker"
	PodmanName     = "podman"
	ContainerdName = "containerd"
)

// askFor is how long a runtime may take to answer a question.
const askFor = 10 * time.Second

// Container is one container as its runtime knows it.
type Container struct {
	Ref       experiment.RuntimeRef
	Name      string // what people call it
	Labels    map[string]string
	State     string    // running, paused, exited …, in the runtime's words
	Running   bool      // it has a process; a paused one has too
	PID       int       // of its init, in the PID namespace of its runtime; 0 where it has none
	Started   time.Time // zero where it is not known
	Unhealthy bool      // it has a health check, and that does not pass
	Pod       string    // the UID of the pod that it is of, where Kubernetes keeps it
}

// Names are what a container may be called: its name, its ID, and the first
// twelve digits of that.
func (c *Container) Names() []string {
	return []string{c.Name, c.Ref.ID, Short(c.Ref.ID)}
}

// Paused tells whether the runtime has paused it: it stands still already, and
// what ends it would have to wait.
func (c *Container) Paused() bool { return c.Ref.Runtime != ContainerdName && c.State == "paused" }

// Short is the beginning of an ID of 64 digits, as people write it; other IDs
// are names, and stay whole.
func Short(id string) string {
	const digits = 64
	if len(id) != digits {
		return id
	}
	return id[:12]
}

// Clients are the connections to runtimes. None is made, and nothing is read,
// before something asks for it.
type Clients struct {
	getenv func(string) string

	mu         sync.Mutex
	dockers    map[string]*Docker     // by endpoint
	containerd map[string]*Containerd // by address
}

// New returns clients for the runtimes that the environment names.
func New() *Clients {
	return &Clients{getenv: os.Getenv, dockers: map[string]*Docker{}, containerd: map[string]*Containerd{}}
}

// daemon is a runtime as the ops need it. An error wraps experiment.ErrGone
// where there is no such container.
type daemon interface {
	Inspect(ctx context.Context, r experiment.RuntimeRef) (Container, error)
	Start(ctx context.Context, r experiment.RuntimeRef) error
	Stop(ctx context.Context, r experiment.RuntimeRef, how Stopping) error
}

// Stopping is how a container is asked to end. Zero values leave it to the
// container's own settings, and those of its runtime.
type Stopping struct {
	Signal string         // with or without SIG
	Grace  *time.Duration // until it is killed
}

// of returns the daemon that keeps a container.
func (c *Clients) of(r experiment.RuntimeRef) (daemon, error) {
	switch r.Runtime {
	case DockerName, PodmanName:
		e, err := parseEndpoint(r.Address)
		if err != nil {
			return nil, err
		}
		return c.dockerAt(r.Runtime, e), nil
	case ContainerdName:
		return c.containerdAt(r.Address), nil
	}
	return nil, fmt.Errorf("no runtime called %q can be asked: %w", r.Runtime, experiment.ErrUnsupported)
}

// unreachable says in one line why a daemon can't be asked, and how another one
// is named.
func unreachable(what, at, how string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("ask %s at %s: no permission (run as root, or as one of the group that owns the socket): %w", what, at, fs.ErrPermission)
	case errors.Is(err, unix.ENOENT), errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("ask %s at %s: none runs there (%s): %w", what, at, how, experiment.ErrUnsupported)
	}
	return fmt.Errorf("ask %s at %s (%s): %w", what, at, how, err)
}

// timeOf turns nanoseconds since 1970 into a time, 0 into none.
func timeOf(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}
