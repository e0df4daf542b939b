package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// wire is what the network faults of a trial break: two processes, each in a
// network namespace of its own, which a veth joins. The near one asks, by UDP
// once a millisecond and by TCP; the far one answers.
//
//	near 10.78.0.2, fd78::2   eth0 ───── eth0   10.78.0.1, fd78::1 far
type wire struct {
	near, far *netEnd
	pulse     *pulse
	v6        bool          // the links have IPv6 addresses
	late      time.Duration // a round trip that takes longer is not as it was
	cut       bool          // the blow has parted its ends for good

	forgive func(line string, gone bool) bool // what the blow has changed; nil where it has not
}

// The addresses of a wire, and its link's name in either namespace.
const (
	nearIP, farIP   = "10.78.0.2", "10.78.0.1"
	nearIP6, farIP6 = "fd78::2", "fd78::1"
	wireLink        = "eth0"
)

// netEnd is one end of a wire.
type netEnd struct {
	name   string
	cmd    *exec.Cmd
	id     experiment.ProcessID
	target experiment.Target
	before []string          // its network, one line a fact
	others map[string]string // the same, as other programs show it
	rooted bool              // somebody has put a qdisc at the root of its link
	killed bool              // by the blow
	over   chan struct{}
}

// newWire starts the processes, joins them, furnishes their namespaces and
// waits until packets flow.
func (t *trial) newWire() (*wire, error) {
	w := &wire{v6: t.rng.IntN(2) == 0}
	t.recipe.wire = w // so that it is ended whatever happens
	var err error
	if w.pulse, err = newPulse(); err != nil {
		return w, err
	}
	if w.far, err = w.start(roleFar, t.tag); err != nil {
		return w, err
	}
	if w.near, err = w.start(roleNear, t.tag); err != nil {
		return w, err
	}
	if err := w.join(); err != nil {
		return w, fmt.Errorf("join the ends of a wire: %w", err)
	}
	for _, e := range w.ends() {
		if err := e.in(func() error { return furnish(t.rng, e, t.note) }); err != nil {
			return w, fmt.Errorf("furnish a network: %w", err)
		}
	}
	if err := w.settled(); err != nil {
		return w, err
	}
	for _, e := range w.ends() {
		if e.before, err = e.state(); err != nil {
			return w, err
		}
		e.others = e.seenBy()
	}
	return w, nil
}

func (w *wire) ends() []*netEnd {
	return slices.DeleteFunc([]*netEnd{w.near, w.far}, func(e *netEnd) bool { return e == nil })
}

// start starts an end in a network namespace of its own.
func (w *wire) start(name, tag string) (*netEnd, error) {
	c := role(name, tag)
	c.SysProcAttr.Cloneflags = unix.CLONE_NEWNET
	c.ExtraFiles = []*os.File{w.pulse.file}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("start an end of a wire: %w", err)
	}
	e := &netEnd{name: name, cmd: c, over: make(chan struct{})}
	go func() { _ = c.Wait(); close(e.over) }()
	var err error
	if e.target, err = proc.Host().Target(c.Process.Pid); err == nil {
		e.id, err = proc.Host().Identify(c.Process.Pid)
	}
	if err != nil {
		e.end()
		return nil, err
	}
	return e, nil
}

// in runs fn in the end's network namespace.
func (e *netEnd) in(fn func() error) error { return proc.Host().InNetwork(e.target.Net, fn) }

// state is all of the end's network that faults could change.
func (e *netEnd) state() ([]string, error) { return netState(e.target) }

func netState(target experiment.Target) ([]string, error) {
	seen, err := proc.Host().Observe(context.Background(), target)
	for _, o := range seen {
		if strings.HasPrefix(o.Object, "net:") {
			return o.Lines, err
		}
	}
	return nil, errors.Join(err, experiment.ErrGone)
}

// end kills the end.
func (e *netEnd) end() {
	_ = e.cmd.Process.Signal(unix.SIGCONT)
	_ = e.cmd.Process.Kill()
	<-e.over
}

func (e *netEnd) alive() bool {
	select {
	case <-e.over:
		return false
	default:
		return true
	}
}

// broken says what of the wire's processes does not run.
func (w *wire) broken() []string {
	var out []string
	for _, e := range w.ends() {
		pid := e.cmd.Process.Pid
		switch {
		case e.killed:
		case !e.alive():
			out = append(out, fmt.Sprintf("pid %d (%s) is dead", pid, e.name))
		case stopped(pid):
			out = append(out, fmt.Sprintf("pid %d (%s) is stopped", pid, e.name))
		}
	}
	return out
}

// fewest is from how many questions it is told whether packets flow.
const fewest = 20

// settled waits until packets flow, and sets what is late from how long they
// take.
func (w *wire) settled() error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		list := w.pulse.last(2*fewest, bootNow())
		if len(list) < 2*fewest || share(list, longest) < 0.95 || w.pulse.words.Load() == 0 {
			continue
		}
		slices.SortFunc(list, func(a, b known) int { return cmp.Compare(a.took, b.took) })
		w.late = min(max(10*time.Millisecond, 4*list[len(list)*9/10].took), 100*time.Millisecond)
		return nil
	}
	return fmt.Errorf("no packets flow over a wire that is new: near %v, far %v", w.near.alive(), w.far.alive())
}

func (w *wire) end() {
	for _, e := range w.ends() {
		e.end()
	}
	if w.pulse != nil {
		w.pulse.close()
	}
}
