package native

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/image"
	"github.com/simianhq/simian/internal/labnet"
)

// errResting says that nothing is launched any more.
var errResting = errors.New("the lab is being taken down")

// container is one replica of a service, over all its restarts: its network
// namespace, its address, its cgroup and what it has written belong to it.
type container struct {
	lab     *Lab
	service *Service
	name    string // such as web-1
	image   *image.Image
	health  *Health // nil where there is none

	spec   box.Spec
	port   *labnet.Port
	cgroup *box.Cgroup
	log    *logFile

	telling sync.Mutex // held from a change of state until it is noted, so that the notes are in order
	drained chan struct{}

	nudge chan struct{} // has an item when the orders are others

	mu      sync.Mutex
	process *box.Process // nil while none runs
	gone    chan struct{}
	state   experiment.ContainerState
	starts  int
	extra   int // of starts: those that were not its policy's
	last    box.Exit
	since   time.Time // of state
	healthy bool
	why     string        // the last failure of its health check
	moved   chan struct{} // closed and made anew whenever one of these changes

	standing []*errand // orders, in the sequence they came
	worn     settings  // of the last start
	wears    *box.Spec // of the last start
	tried    bool      // the last start has succeeded, or failed
	owed     bool      // it was ended, or could not be put back, for an order: it is started whatever its policy
	ending   bool      // an order has it end
	by       string    // that order, for people
}

func newContainer(l *Lab, s *Service, n int) *container {
	return &container{
		lab: l, service: s, name: fmt.Sprintf("%s-%d", s.Name, n),
		moved: make(chan struct{}), nudge: make(chan struct{}, 1),
	}
}

func (c *container) cgroupName() string { return c.lab.cgroup() + "/" + c.name }

// launch starts the container for the first time, and keeps it up from then
// on.
func (c *container) launch(ctx context.Context) error {
	if err := c.outfit(ctx); err != nil {
		return c.lab.project.errorAt(c.service, "", err)
	}
	p, err := c.start(ctx)
	if err != nil {
		return c.lab.project.errorAt(c.service, "", err)
	}
	c.lab.work.Go(func() { c.keep(p) })
	return nil
}

// start launches its program, unless the lab is to rest.
func (c *container) start(ctx context.Context) (*box.Process, error) {
	c.lab.gate.RLock()
	defer c.lab.gate.RUnlock()
	if c.lab.alive.Err() != nil {
		return nil, errResting
	}
	spec, err := c.dress()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.starts++
	if c.owed {
		c.extra++
	}
	c.healthy, c.why = false, ""
	c.mu.Unlock()
	c.become(experiment.ContainerStarting, nil)
	out, err := c.log.open()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	c.drained = out.drained
	p, err := c.lab.launcher.Start(ctx, spec, box.Stdio{Out: out.stdout, Err: out.stderr})
	if err != nil {
		return nil, c.whyNot(err)
	}
	c.port.SetRunning(true)
	c.become(experiment.ContainerRunning, p)
	return p, nil
}

// whyNot adds to an error of a launch what a shell would exit with, or the limit
// that was too low for it.
func (c *container) whyNot(err error) error {
	var exec *box.ExecError
	if errors.As(err, &exec) {
		return fmt.Errorf("%w (a shell exits with %d)", err, exec.Code)
	}
	if n, _ := c.cgroup.OOMKills(); n > 0 {
		return fmt.Errorf("%w: mem_limit %d bytes is too little to start in", err, c.service.Limits.MemoryBytes)
	}
	return err
}

// drain waits until all that the program has written is in the log, or for a
// moment: whoever says how it ended has its last words then.
func (c *container) drain() {
	select {
	case <-c.drained:
	case <-time.After(drainTime):
	}
}

// become notes a new state, first in the journal.
func (c *container) become(state experiment.ContainerState, p *box.Process) {
	c.telling.Lock()
	defer c.telling.Unlock()
	c.tell(state, p)
}

// tell is become for a caller that holds telling.
func (c *container) tell(state experiment.ContainerState, p *box.Process) {
	m := experiment.ContainerMark{Name: c.name, Service: c.service.Name, State: state}
	c.mu.Lock()
	m.Start = c.starts
	if p != nil {
		m.Process = p.Workload()
	}
	switch {
	case c.owed:
		m.By = c.by
	case c.starts > 1:
		m.Policy = c.service.Restart.String()
	}
	c.mu.Unlock()
	c.lab.note(m)
	c.mu.Lock()
	if p != nil {
		c.process, c.gone = p, make(chan struct{})
		c.tried, c.owed = true, false
	}
	c.state, c.since = state, time.Now()
	c.move()
	c.mu.Unlock()
	c.answer()
}

// exited notes the end of its program, or that it could not be started, and
// why.
func (c *container) exited(exit box.Exit, why string) {
	c.telling.Lock()
	defer c.telling.Unlock()
	c.mu.Lock()
	m := experiment.ContainerMark{Name: c.name, Service: c.service.Name, State: experiment.ContainerExited, Start: c.starts, Exit: exit.String()}
	if c.process != nil {
		m.Process = c.process.Workload()
		close(c.gone)
	}
	if c.ending {
		m.By = c.by
	} else {
		c.exitedBy(exit.String())
	}
	if c.process == nil { // it could not be started; it still has to be, as it was before there were orders
		c.owed = c.owed && c.worn == (settings{})
	}
	c.process, c.last, c.why, c.tried, c.ending = nil, exit, why, true, false
	c.state, c.since, c.healthy = experiment.ContainerExited, time.Now(), false
	c.move()
	c.mu.Unlock()
	if c.lab.alive.Err() == nil { // the lab's own end is no news
		c.lab.note(m)
	}
	c.answer()
}

// move wakes whoever waits for a change. The caller holds mu.
func (c *container) move() {
	close(c.moved)
	c.moved = make(chan struct{})
	c.lab.stale()
}

// end kills the container, and waits until it is gone.
func (c *container) end(ctx context.Context) error {
	c.mu.Lock()
	p, gone := c.process, c.gone
	c.mu.Unlock()
	if p != nil {
		if err := c.kill(ctx, p, gone); err != nil {
			return err
		}
	}
	if c.port != nil {
		c.port.Close()
	}
	return c.log.Close()
}
