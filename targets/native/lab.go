package native

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/image"
	"github.com/simianhq/simian/internal/labnet"
	"github.com/simianhq/simian/internal/proc"
)

// Env is what a lab is launched with.
type Env struct {
	FS     proc.FS
	State  string // Simian's state directory: labs/RUN and logs/RUN are made in it
	Images string // where images are kept
	Pulled func(image.Progress)
}

// Lab is the containers of one run, and what keeps them up. This process is
// their parent: they die with it.
//
//	<state>/labs/RUN/          taken away with the lab
//	  state.json               what runs, for other processes
//	  orders/                what faults want of a container: see op.Keep
//	  box/web-1/layer/         what a container has written
//	  box/web-1/{hosts,…}      its files of the network
//	  volumes/data             what containers share
//	<state>/logs/RUN/web-1.log stays
type Lab struct {
	project *Project
	env     Env
	run     experiment.RunID
	note    func(experiment.ContainerMark)

	images   map[string]*image.Image      // by reference
	pins     []func() error               // keep their layers
	filters  map[string][]unix.SockFilter // by profile and capabilities; guarded by filtering
	book     *orderBook
	launcher *box.Launcher
	net      *labnet.Net
	netns    int            // the file descriptor of its namespace
	resolver netip.AddrPort // there

	boxes  []*container
	byName map[string]*container
	cells  map[string][]*container // by service

	alive context.Context // ends when the lab is to rest
	rest  context.CancelFunc
	gate  sync.RWMutex // held to read while a container is launched; to write, to rest
	work  sync.WaitGroup

	ports     []published
	filtering sync.Mutex
	volumes   sync.Mutex    // one volume is made at a time
	writing   sync.Mutex    // of state.json
	changed   chan struct{} // has an item when state.json is out of date
}

// NewLab returns a lab of p that is not launched yet.
func NewLab(p *Project, env Env) *Lab {
	alive, rest := context.WithCancel(context.Background())
	l := &Lab{
		project: p, env: env, alive: alive, rest: rest, changed: make(chan struct{}, 1),
		images: map[string]*image.Image{}, byName: map[string]*container{}, cells: map[string][]*container{},
		filters: map[string][]unix.SockFilter{},
	}
	for i := range p.Services {
		s := &p.Services[i]
		for n := range s.Replicas {
			c := newContainer(l, s, n+1)
			l.boxes = append(l.boxes, c)
			l.byName[c.name] = c
			l.cells[s.Name] = append(l.cells[s.Name], c)
		}
	}
	return l
}

// Project returns what the lab is made of.
func (l *Lab) Project() *Project { return l.project }

// Prepare gets the images, and holds what they bring against what the services
// ask for.
func (l *Lab) Prepare(ctx context.Context, run experiment.RunID) error {
	l.run = run
	if os.Geteuid() != 0 {
		return fmt.Errorf("launching containers needs root: %w", experiment.ErrUnsupported)
	}
	cache, err := image.Open(l.env.Images)
	if err != nil {
		return err
	}
	for i := range l.project.Services {
		s := &l.project.Services[i]
		if s.Image == "" || s.Replicas == 0 {
			continue
		}
		if err := l.pull(ctx, cache, s); err != nil {
			return l.project.errorAt(s, "image", err)
		}
	}
	for _, c := range l.boxes {
		if err := c.prepare(); err != nil {
			return l.project.errorAt(c.service, "", err)
		}
	}
	return l.checkHealthy()
}

// checkHealthy refuses to wait for the health of what has no health check.
func (l *Lab) checkHealthy() error {
	for i := range l.project.Services {
		s := &l.project.Services[i]
		for _, d := range s.DependsOn {
			others := l.cells[d.Service]
			if d.Condition == healthyCondition && len(others) > 0 && others[0].health == nil {
				return l.project.errorAt(s, "depends_on."+d.Service, fmt.Errorf("waits for %s to be healthy, and neither the file nor its image has a health check", d.Service))
			}
		}
	}
	return nil
}

func (l *Lab) pull(ctx context.Context, cache *image.Cache, s *Service) error {
	key := s.Image + " " + s.Platform
	if l.images[key] == nil {
		o := image.Options{Platform: s.Platform, Pull: s.Pull, Dir: l.project.Dir, Progress: l.env.Pulled}
		img, err := cache.Get(ctx, s.Image, o)
		if err != nil {
			return err
		}
		l.images[key] = img
	}
	for _, c := range l.cells[s.Name] {
		c.image = l.images[key]
	}
	return nil
}

func (l *Lab) dir(parts ...string) string {
	return filepath.Join(append([]string{l.env.State, "labs", string(l.run)}, parts...)...)
}

func (l *Lab) cgroup() string { return "simian-" + string(l.run) }

// Steps returns what launching takes: the folder, the cgroup and the network
// of the lab, and each container.
func (l *Lab) Steps(run experiment.RunID) ([]experiment.PlannedStep, error) {
	l.run = run
	network := l.makeNetwork()
	steps := []experiment.PlannedStep{
		{Step: experiment.Step{Do: &MakeFolder{Path: l.dir()}, Undo: &RemoveFolder{Path: l.dir(), Images: l.env.Images, lab: l}}},
		{Step: experiment.Step{Do: &MakeCgroup{Name: l.cgroup(), lab: l}, Undo: &RemoveCgroup{Name: l.cgroup(), fs: l.env.FS}}},
		{Step: experiment.Step{Do: network, Undo: &CloseNetwork{Networks: network.Networks, lab: l}}},
	}
	for _, c := range l.boxes {
		steps = append(steps, experiment.PlannedStep{Target: c.name, Step: experiment.Step{
			Do:   &Launch{Container: c.name, Image: c.service.source(), lab: l},
			Undo: &End{Container: c.name, Cgroup: c.cgroupName(), fs: l.env.FS, lab: l},
		}})
	}
	return steps, nil
}

// Up applies the steps in the order of their dependencies, and returns once
// every container is up, and healthy where it has a health check.
func (l *Lab) Up(ctx context.Context, steps []experiment.PlannedStep, apply func(context.Context, experiment.PlannedStep) error, note func(experiment.ContainerMark)) error {
	l.note = note
	if err := l.pin(ctx); err != nil {
		return err
	}
	var err error
	if l.launcher, err = box.NewLauncher(l.env.FS); err != nil {
		return err
	}
	up, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, s := range steps {
		if s.Target == "" {
			if err := apply(ctx, s); err != nil {
				return err
			}
			continue
		}
		wg.Go(func() {
			if err := l.raise(up, s, apply); err != nil {
				cancel(err) // the first one says why
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return l.late(ctx)
	}
	if err := context.Cause(up); err != nil {
		return err
	}
	return l.writeState() // whoever hears that it is up finds it so
}

// raise waits for what a container depends on, launches it, and waits until it
// is up.
func (l *Lab) raise(ctx context.Context, s experiment.PlannedStep, apply func(context.Context, experiment.PlannedStep) error) error {
	c := l.byName[s.Target]
	if err := l.await(ctx, c.service); err != nil {
		return err
	}
	err := apply(ctx, s)
	var placed *experiment.FileError
	if errors.As(err, &placed) { // it names the container; the step's words need not
		return placed
	}
	if err != nil {
		return err
	}
	return c.awaitUp(ctx)
}

// late says what was waited for when ctx ended.
func (l *Lab) late(ctx context.Context) error {
	var waits []string
	for _, c := range l.boxes {
		if why := c.waiting(); why != "" {
			waits = append(waits, why)
		}
	}
	switch why := strings.Join(waits, "; "); {
	case why == "":
		return ctx.Err()
	case errors.Is(ctx.Err(), context.DeadlineExceeded): // the engine says how long it was
		return errors.New(why)
	default:
		return fmt.Errorf("%s: %w", why, ctx.Err())
	}
}

// Rest starts nothing from now on.
func (l *Lab) Rest() {
	l.rest()
	l.gate.Lock() // what is being launched is launched now
	defer l.gate.Unlock()
}

// closeTime is how long Close waits for what the kernel has been told to kill.
const closeTime = 10 * time.Second

// Close gives up what this process holds, once the lab is taken down. A
// container that is still there is killed by the kernel: its parent goes.
func (l *Lab) Close() error {
	l.Rest()
	var errs []error
	if l.launcher != nil {
		errs = append(errs, l.launcher.Close())
	}
	done := make(chan struct{})
	go func() {
		l.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(closeTime): // one that is frozen does not die
		errs = append(errs, fmt.Errorf("a container of lab %s has not ended within %s", l.project.Name, closeTime))
	}
	return errors.Join(append(errs, l.unpin())...)
}

// pin keeps the images' layers in the cache. Only now does the journal say who
// lets go of them.
func (l *Lab) pin(ctx context.Context) error {
	if len(l.images) == 0 {
		return nil
	}
	cache, err := image.Open(l.env.Images)
	if err != nil {
		return err
	}
	for _, img := range l.images {
		release, err := cache.Use(ctx, img, string(l.run))
		if err != nil {
			return err
		}
		l.pins = append(l.pins, release)
	}
	return nil
}

// unpin lets go of the images.
func (l *Lab) unpin() error {
	var errs []error
	for _, release := range l.pins {
		errs = append(errs, release())
	}
	l.pins = nil
	return errors.Join(errs...)
}

// Dial connects as net.Dialer.DialContext does, from inside the lab, whose
// names it knows.
func (l *Lab) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if l.net == nil {
		return nil, errors.New("the lab is not up")
	}
	return l.net.Dial(ctx, network, address)
}
