package native

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/op"
)

// keep is the container's keeper: it waits for the end of its program, and
// starts it again as its policy says, or orders do, until the lab rests.
func (c *container) keep(p *box.Process) {
	wait := backoff{first: c.service.Restart.Delay, window: c.service.Restart.Window}
	for p != nil {
		began := time.Now()
		c.watch(p)
		ordered := c.attend(p)
		exit := p.Wait()
		c.port.SetRunning(false)
		c.drain()
		c.exited(exit, "")
		var pause time.Duration
		if !ordered {
			pause = wait.next(time.Since(began))
		}
		c.wipe()
		p = c.restart(pause)
	}
}

// attend waits until p has ended, and ends it where an order wants that, which
// it tells.
func (c *container) attend(p *box.Process) (ordered bool) {
	for {
		if c.due() {
			c.bringDown(p)
			return true
		}
		select {
		case <-p.Done():
			return false
		case <-c.nudge:
		}
	}
}

// farewell is how a container is ended.
type farewell struct {
	signal unix.Signal
	grace  time.Duration
}

// bringDown has p end: it is asked to, and killed once its grace is over, or
// nobody wants its end any more: it is started anew then.
func (c *container) bringDown(p *box.Process) {
	f := c.farewell()
	if f.grace > 0 && p.Signal(f.signal) == nil {
		over := time.NewTimer(f.grace)
		defer over.Stop()
		for waiting := true; waiting; {
			select {
			case <-p.Done():
				return
			case <-over.C:
				c.tellKilled()
				waiting = false
			case <-c.nudge:
				waiting = c.due()
			}
		}
	}
	for c.kill(c.lab.alive, p, p.Done()) != nil && c.lab.alive.Err() == nil { // it is frozen again and again
		sleep(c.lab.alive, frozenTime)
	}
}

// farewell tells, and notes, how the container is to be ended for its orders.
func (c *container) farewell() farewell {
	c.telling.Lock()
	defer c.telling.Unlock()
	c.mu.Lock()
	c.owed, c.ending = true, true
	f := farewell{c.stopSignal(), min(c.service.StopGrace, restartGrace)}
	if by, _ := c.held(); by != nil {
		f = c.heldBy(by)
	}
	c.by = c.reason()
	if f.grace <= 0 {
		f = farewell{signal: unix.SIGKILL}
	}
	for _, s := range c.inForce() {
		if a := &s.answer; !a.Done {
			a.Signal, a.Grace = unix.SignalName(f.signal), experiment.Duration(f.grace)
		}
	}
	c.mu.Unlock()
	c.answer()
	return f
}

// heldBy is how an order that holds the container has it end: what is removed
// is killed.
func (c *container) heldBy(s *errand) farewell {
	f := farewell{signal: c.stopSignal()}
	switch {
	case s.What == op.OrderRemove:
		return f
	case s.Grace != nil:
		f.grace = s.Grace.D()
	default:
		f.grace = c.service.StopGrace
	}
	if s.Signal != "" {
		f.signal = op.SignalNumber(s.Signal)
	}
	return f
}

// tellKilled notes that it did not end within its grace.
func (c *container) tellKilled() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.inForce() {
		s.answer.Killed = s.answer.Killed || !s.answer.Done
	}
}

// wipe throws away what the container has written, where an order removes it.
func (c *container) wipe() {
	c.mu.Lock()
	s, _ := c.held()
	c.mu.Unlock()
	if s == nil || s.What != op.OrderRemove || s.wiped {
		return
	}
	files, bytes := measure(c.dir("layer", "upper"))
	err := errors.Join(os.RemoveAll(c.dir("layer")), c.folders())
	if s.Volumes {
		err = errors.Join(err, os.RemoveAll(c.dir("volumes")), c.refill())
	}
	c.telling.Lock()
	defer c.telling.Unlock()
	c.mu.Lock()
	if s.wiped = err == nil; err != nil {
		c.why = err.Error()
	}
	s.answer.Files, s.answer.Bytes = files, bytes
	c.mu.Unlock()
	c.answer()
}

// refill makes its anonymous volumes anew.
func (c *container) refill() error {
	for n, m := range c.allMounts() {
		if m.Type == "volume" && m.Source == "" {
			if _, err := c.volume(n, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure counts the files below dir that hold something, and what they hold.
// What other things are mounted on is empty.
func measure(dir string) (files int, bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // what cannot be read is not counted
		}
		if info, err := d.Info(); err == nil && info.Size() > 0 {
			files++
			bytes += info.Size()
		}
		return nil
	})
	return files, bytes
}

// restart starts the program again once it is to be; nil says that it never is:
// the lab rests.
func (c *container) restart(pause time.Duration) *box.Process {
	for at := time.Now().Add(pause); ; {
		if !c.awaitStart(at) {
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
		if pause = min(2*pause, longestBackoff); pause == 0 {
			pause = firstBackoff
		}
		at = time.Now().Add(pause)
	}
}

// awaitStart waits until the program is to be started, at the time that its
// policy gives, or an order. False says that the lab rests.
func (c *container) awaitStart(at time.Time) bool {
	for {
		when, ever := c.nextStart(at)
		timer := time.NewTimer(time.Until(when))
		var start <-chan time.Time
		if ever {
			start = timer.C
		}
		select {
		case <-start:
			if again, ever := c.nextStart(at); ever && !time.Now().Before(again) && c.lab.alive.Err() == nil {
				timer.Stop()
				return true
			}
		case <-c.nudge:
		case <-c.lab.alive.Done():
		}
		timer.Stop()
		if c.lab.alive.Err() != nil {
			return false
		}
	}
}

// nextStart tells when the program is to be started next, if ever: at the time
// that its policy gives; at once where an order had it end, or is to be taken
// back; not as long as one holds it down.
func (c *container) nextStart(at time.Time) (when time.Time, ever bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	by, until := c.held()
	changed := c.worn != c.wanted()
	switch {
	case by != nil:
		return until, !until.IsZero()
	case changed || c.owed && c.why == "": // it has not been tried yet
		return time.Time{}, true
	case c.owed:
		return at, true
	}
	return at, c.policyWants()
}

// policyWants tells whether the policy wants another start, now that the last
// has come to an end. The caller holds mu.
func (c *container) policyWants() bool {
	r := c.service.Restart
	switch r.Policy {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return !c.last.Success() && (r.MaxAttempts == 0 || c.starts-c.extra <= r.MaxAttempts)
	}
	return false
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

// kill kills p with all that runs beside it, and waits until gone is closed.
// What is frozen dies only once it is thawed.
func (c *container) kill(ctx context.Context, p *box.Process, gone <-chan struct{}) error {
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
