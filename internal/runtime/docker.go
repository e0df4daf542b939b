package runtime

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"

	"github.com/simianhq/simian/experiment"
)

// Docker is a Docker, or a Podman by its socket that speaks Docker's API
// (docs.docker.com/reference/api/engine).
type Docker struct {
	name string // docker or podman
	at   endpoint

	mu     sync.Mutex
	client *client.Client
	cache  cache
}

// Docker returns the Docker that the environment names.
func (c *Clients) Docker() (*Docker, error) {
	e, err := dockerEndpoint(c.getenv)
	if err != nil {
		return nil, err
	}
	return c.dockerAt(DockerName, e), nil
}

// Podman returns the Podman that the environment names.
func (c *Clients) Podman() (*Docker, error) {
	e, err := podmanEndpoint(c.getenv)
	if err != nil {
		return nil, err
	}
	return c.dockerAt(PodmanName, e), nil
}

func (c *Clients) dockerAt(name string, e endpoint) *Docker {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := name + " " + e.String()
	if c.dockers[key] == nil {
		c.dockers[key] = &Docker{name: name, at: e}
	}
	return c.dockers[key]
}

// title is what people call it.
func (d *Docker) title() string {
	if d.name == PodmanName {
		return "Podman"
	}
	return "Docker"
}

// String gives "Docker at unix:///var/run/docker.sock".
func (d *Docker) String() string { return d.title() + " at " + d.at.host }

// Local tells whether its socket is on this machine. What answers there may be
// on another one nevertheless.
func (d *Docker) Local() bool { return d.at.local() }

// explain says why the daemon could not be asked, or what it said.
func (d *Docker) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case cerrdefs.IsNotFound(err):
		return fmt.Errorf("%s says: %w: %w", d.title(), err, experiment.ErrGone)
	case !client.IsErrConnectionFailed(err):
		return fmt.Errorf("ask %s: %w", d, err)
	}
	how := "DOCKER_HOST or DOCKER_CONTEXT names another one"
	if d.name == PodmanName {
		how = "podman system service serves it, CONTAINER_HOST names another one"
	}
	return unreachable(d.title(), strings.TrimPrefix(d.at.host, "unix://"), how, d.cause(err))
}

// connect returns the client, which is made at first.
func (d *Docker) connect() (*client.Client, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.client != nil {
		return d.client, nil
	}
	opts := []client.Opt{client.WithUserAgent("simian")}
	if d.at.certs != "" {
		tls, err := d.at.tls()
		if err != nil {
			return nil, fmt.Errorf("read the certificates for %s: %w", d, err)
		}
		opts = append(opts, client.WithHTTPClient(&http.Client{Transport: &http.Transport{TLSClientConfig: tls}}))
	}
	made, err := client.New(append(opts, client.WithHost(d.at.host))...)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", d, err)
	}
	d.client = made
	return made, nil
}

// list returns the containers that run, or all of them, by what one question
// tells: neither pids nor restart policies.
func (d *Docker) list(ctx context.Context, all bool) ([]Container, error) {
	c, err := d.connect()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	r, err := c.ContainerList(ctx, client.ContainerListOptions{All: all})
	if err != nil {
		return nil, d.explain(err)
	}
	found := make([]Container, 0, len(r.Items))
	for _, s := range r.Items {
		name := Short(s.ID)
		if len(s.Names) > 0 {
			name = strings.TrimPrefix(ownName(s.Names), "/")
		}
		found = append(found, Container{
			Ref: d.ref(s.ID), Name: name, Labels: s.Labels, State: string(s.State),
			Running: s.State == container.StateRunning || s.State == container.StatePaused,
			Pod:     s.Labels[podLabel],
		})
	}
	return found, nil
}

// ownName is the name that has no other container's in front: those are links.
func ownName(names []string) string {
	for _, n := range names {
		if strings.LastIndexByte(n, '/') == 0 {
			return n
		}
	}
	return names[0]
}

func (d *Docker) ref(id string) experiment.RuntimeRef {
	return experiment.RuntimeRef{Runtime: d.name, ID: id, Address: d.at.String()}
}

// Inspect returns a container as it is now.
func (d *Docker) Inspect(ctx context.Context, r experiment.RuntimeRef) (Container, error) {
	c, err := d.connect()
	if err != nil {
		return Container{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	i, err := c.ContainerInspect(ctx, r.ID, client.ContainerInspectOptions{})
	if err != nil {
		return Container{}, d.explain(err)
	}
	return d.inspected(&i.Container), nil
}

func (d *Docker) inspected(i *container.InspectResponse) Container {
	found := Container{Ref: d.ref(i.ID), Name: strings.TrimPrefix(i.Name, "/")}
	if i.Config != nil {
		found.Labels, found.Pod = i.Config.Labels, i.Config.Labels[podLabel]
	}
	if i.HostConfig != nil {
		found.Ref.Restart = surely(i.HostConfig.RestartPolicy, i.RestartCount)
		if i.HostConfig.AutoRemove {
			found.Ref.NoStart = d.title() + " removes it when it ends (--rm)"
		}
	}
	if s := i.State; s != nil {
		found.State, found.Running, found.PID = string(s.Status), s.Running && s.Pid > 0, s.Pid
		found.Ref.Started = s.StartedAt
		found.Started, _ = time.Parse(time.RFC3339Nano, s.StartedAt)
		found.Unhealthy = s.Health != nil && s.Health.Status == container.Unhealthy
	}
	return found
}

// surely returns a restart policy as Compose writes it. One that has used up
// its tries is none.
func surely(p container.RestartPolicy, restarts int) string {
	switch {
	case p.Name == "":
		return "no"
	case p.Name == container.RestartPolicyOnFailure && p.MaximumRetryCount > 0 && restarts >= p.MaximumRetryCount:
		return "no"
	}
	return string(p.Name)
}

// Start implements daemon. One that runs already is left alone.
func (d *Docker) Start(ctx context.Context, r experiment.RuntimeRef) error {
	c, err := d.connect()
	if err != nil {
		return err
	}
	_, err = c.ContainerStart(ctx, r.ID, client.ContainerStartOptions{})
	return d.explain(err)
}

// Stop implements daemon. It returns once the container has ended, though a
// daemon that was asked goes on without being waited for.
func (d *Docker) Stop(ctx context.Context, r experiment.RuntimeRef, how Stopping) error {
	c, err := d.connect()
	if err != nil {
		return err
	}
	o := client.ContainerStopOptions{Signal: how.Signal}
	if how.Grace != nil {
		seconds := int((*how.Grace + time.Second - 1) / time.Second)
		o.Timeout = &seconds
	}
	_, err = c.ContainerStop(ctx, r.ID, o)
	return d.explain(err)
}

// Remove takes a container away, whether it runs or not.
func (d *Docker) Remove(ctx context.Context, r experiment.RuntimeRef, volumes bool) error {
	c, err := d.connect()
	if err != nil {
		return err
	}
	_, err = c.ContainerRemove(ctx, r.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: volumes})
	for cerrdefs.IsConflict(err) && sleep(ctx, lookAgain) { // it is being removed already
		if _, err := d.Inspect(ctx, r); err != nil {
			if errors.Is(err, experiment.ErrGone) {
				return nil
			}
			return err
		}
	}
	return d.explain(err)
}

// signalled is since which version of the API a stop takes a signal.
const signalled = "1.42"

// checkSignal says where the daemon is too old to stop with another signal than
// the container's own.
func (d *Docker) checkSignal(ctx context.Context) error {
	c, err := d.connect()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	if _, err := c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return d.explain(err)
	}
	if v := c.ClientVersion(); versions.LessThan(v, signalled) {
		return fmt.Errorf("this %s (API %s) takes no signal for a stop (%s does): leave it out, and the container's own is sent: %w", d.title(), v, signalled, experiment.ErrUnsupported)
	}
	return nil
}

// cert names a file of the endpoint's TLS material.
func (e endpoint) cert(name string) string { return filepath.Join(e.certs, name) }
