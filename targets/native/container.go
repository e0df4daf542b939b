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

	mu      sync.Mutex
	process *box.Process // nil while none runs
	gone    chan struct{}
	state   experiment.ContainerState
	starts  int
	last    box.Exit
	since   time.Time // of state
	healthy bool
	why     string        // the last failure of its health check
	moved   chan struct{} // closed and made anew whenever one of these changes
}

func newContainer(l *Lab, s *Service, n int) *container {
	return &container{lab: l, service: s, name: fmt.Sprintf("%s-%d", s.Name, n), moved: make(chan struct{})}
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
	c.mu.Lock()
	c.starts++
	c.healthy, c.why = false, ""
	c.mu.Unlock()
	c.become(experiment.ContainerStarting, nil)
	out, err := c.log.open()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	c.drained = out.drained
	p, err := c.lab.launcher.Start(ctx, &c.spec, box.Stdio{Out: out.stdout, Err: out.stderr})
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

// keep waits for the end of its program, and starts it again as its policy
// says.
func (c *container) keep(p *box.Process) {
	wait := backoff{first: c.service.Restart.Delay, window: c.service.Restart.Window}
	for {
		began := time.Now()
		c.watch(p)
		exit := p.Wait()
		c.port.SetRunning(false)
		c.drain()
		c.exited(exit, "")
		if p = c.restart(wait.next(time.Since(began))); p == nil {
			return
		}
	}
}

// drain waits until all that the program has written is in the log, or for a
// moment: whoever says how it ended has its last words then.
func (c *container) drain() {
	select {
	case <-c.drained:
	case <-time.After(drainTime):
	}
}

// restart starts the program again, nil where it is not to be.
func (c *container) restart(wait time.Duration) *box.Process {
	for c.again() {
		select {
		case <-time.After(wait):
		case <-c.lab.alive.Done():
			return nil
		}
		p, err := c.start(c.lab.alive)
		if err == nil {
			return p
		}
		if errors.Is(err, errResting) {
			return nil
		}
		c.exited(notStarted(err), err.Error())
		wait = min(2*wait, longestBackoff)
	}
	return nil
}

// notStarted is the end of a program that could not be started: the exit code
// that a shell gives, or else the one that Docker gives.
func notStarted(err error) box.Exit {
	var e *box.ExecError
	if errors.As(err, &e) {
		return box.Exit{Code: e.Code}
	}
	return box.Exit{Code: 125}
}

// again tells whether the policy wants another start, now that the last has
// come to an end.
func (c *container) again() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wanted()
}

// wanted is again for a caller that holds mu.
func (c *container) wanted() bool {
	r := c.service.Restart
	switch r.Policy {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return !c.last.Success() && (r.MaxAttempts == 0 || c.starts <= r.MaxAttempts)
	}
	return false
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
	if c.starts > 1 {
		m.Policy = c.service.Restart.String()
	}
	c.mu.Unlock()
	c.lab.note(m)
	c.mu.Lock()
	if p != nil {
		c.process, c.gone = p, make(chan struct{})
	}
	c.state, c.since = state, time.Now()
	c.move()
	c.mu.Unlock()
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
	c.process, c.last, c.why = nil, exit, why
	c.state, c.since, c.healthy = experiment.ContainerExited, time.Now(), false
	c.move()
	c.mu.Unlock()
	if c.lab.alive.Err() == nil { // the lab's own end is no news
		c.lab.note(m)
	}
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

// kill kills p with all that runs beside it, and waits until it is gone. What
// is frozen dies only once it is thawed.
func (c *container) kill(ctx context.Context, p *box.Process, gone chan struct{}) error {
	if err := p.Kill(); err != nil && !errors.Is(err, experiment.ErrGone) {
		return fmt.Errorf("kill %s: %w", c.name, err)
	}
	select {
	case <-gone:
		return nil
	case <-time.After(frozenTime):
	}
	if err := box.KillCgroup(ctx, c.lab.env.FS, c.cgroupName()); err != nil {
		return err
	}
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of %s: %w", c.name, ctx.Err())
	}
}

// backoff is how long to wait before the next start.
type backoff struct {
	first, window time.Duration
	wait          time.Duration
}

const (
	drainTime  = time.Second            // for what is still in a program's pipes
	frozenTime = 250 * time.Millisecond // until a program that was killed and has not ended is taken for frozen: a hundred at once take a while

	firstBackoff   = 100 * time.Millisecond
	longestBackoff = time.Minute
	backoffWindow  = 10 * time.Second // up for so long, and it starts over
)

// next returns the wait after a run that lasted for up.
func (b *backoff) next(up time.Duration) time.Duration {
	first, window := b.first, b.window
	if first == 0 {
		first = firstBackoff
	}
	if window == 0 {
		window = backoffWindow
	}
	switch {
	case b.wait == 0 || up >= window:
		b.wait = first
	default:
		b.wait = min(2*b.wait, max(first, longestBackoff))
	}
	return b.wait
}
