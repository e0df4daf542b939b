package native

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/box"
)

// What holds where neither file nor image says (Dockerfile HEALTHCHECK).
const (
	healthInterval      = 30 * time.Second
	healthTimeout       = 30 * time.Second
	healthStartInterval = 5 * time.Second
	healthRetries       = 3

	eagerFirst   = 25 * time.Millisecond // the first wait between early checks; it doubles
	healthOutput = 4 << 10               // bytes of a check's output that are kept
	healthLinger = 50 * time.Millisecond // for the rest of its output once it has ended
)

// withDefaults fills in what a health check leaves open; nil where there is
// none.
func (h Health) withDefaults() *Health {
	if len(h.Test) == 0 || h.Test[0] == "NONE" {
		return nil
	}
	h.Interval, h.Timeout = or(h.Interval, healthInterval), or(h.Timeout, healthTimeout)
	h.StartInterval, h.Retries = or(h.StartInterval, healthStartInterval), or(h.Retries, healthRetries)
	return &h
}

// command returns what is executed.
func (h *Health) command() []string {
	switch h.Test[0] {
	case "CMD":
		return h.Test[1:]
	case "CMD-SHELL":
		return []string{"/bin/sh", "-c", strings.Join(h.Test[1:], " ")}
	}
	return h.Test
}

// watch checks the health of p for as long as it lives.
func (c *container) watch(p *box.Process) {
	if c.health == nil {
		return
	}
	c.lab.work.Go(func() {
		ctx, cancel := context.WithCancel(c.lab.alive)
		defer cancel()
		go func() {
			select {
			case <-p.Done():
				cancel()
			case <-ctx.Done():
			}
		}()
		c.checks(ctx, p)
	})
}

// checks runs the health check again and again. Until it passes for the first
// time, extra checks are made in quick succession, so that nobody waits for
// what is ready; their failures do not count.
func (c *container) checks(ctx context.Context, p *box.Process) {
	h, began, failures := c.health, time.Now(), 0
	early, counted := time.Duration(0), began
	for passed := false; ctx.Err() == nil; {
		err := c.check(ctx, p)
		if ctx.Err() != nil {
			return
		}
		starting := time.Since(began) < h.StartPeriod
		switch {
		case err == nil:
			passed, failures = true, 0
			c.judge(p, experiment.ContainerHealthy, "")
		case passed && !starting || time.Since(counted) >= h.Interval && !starting:
			counted = time.Now()
			if failures++; failures >= h.Retries {
				c.judge(p, experiment.ContainerUnhealthy, err.Error())
				passed = true // no more hurry
				break
			}
			fallthrough
		default:
			c.judge(p, "", err.Error())
		}
		wait := h.Interval
		if !passed {
			early = h.early(early)
			wait = early
		}
		sleep(ctx, wait)
	}
}

// early returns how long to wait between early checks, after a wait before.
func (h *Health) early(before time.Duration) time.Duration {
	return min(max(2*before, eagerFirst), h.Interval, h.StartInterval)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// judge notes what the checks of p have come to; state "" leaves it as it is.
func (c *container) judge(p *box.Process, state experiment.ContainerState, why string) {
	c.telling.Lock()
	defer c.telling.Unlock()
	c.mu.Lock()
	if c.process != p { // it has ended meanwhile
		c.mu.Unlock()
		return
	}
	c.why = why
	if state != "" {
		c.healthy = state == experiment.ContainerHealthy
	}
	news := state != "" && c.state != state
	c.mu.Unlock()
	c.lab.stale()
	if news {
		c.tell(state, nil)
	} else {
		c.answer()
	}
}

// check runs the health check once.
func (c *container) check(ctx context.Context, in *box.Process) error {
	ctx, cancel := context.WithTimeout(ctx, c.health.Timeout)
	defer cancel()
	exit, said, err := c.ask(ctx, in)
	switch {
	case err == nil && exit.Success():
		return nil
	case ctx.Err() == context.DeadlineExceeded:
		return fmt.Errorf("no answer of its health check within %s", c.health.Timeout)
	case err != nil:
		return err
	}
	return fmt.Errorf("its health check ends with %s: %s", exit, said)
}

// ask executes the health check until ctx ends, and returns how it ended and
// what it has said.
func (c *container) ask(ctx context.Context, in *box.Process) (exit box.Exit, said string, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return exit, "", err
	}
	defer r.Close()
	spec := c.execSpec(c.health.command())
	p, err := c.lab.launcher.Exec(ctx, in.ID(), &spec, box.Stdio{Out: w, Err: w})
	w.Close()
	if err != nil {
		return exit, "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = p.Kill() })
	defer stop()
	go func() { // what it leaves running may keep its output open
		p.Wait()
		_ = r.SetReadDeadline(time.Now().Add(healthLinger))
	}()
	var out bytes.Buffer
	_, _ = io.Copy(&out, io.LimitReader(r, healthOutput))
	_, _ = io.Copy(io.Discard, r)
	return p.Wait(), strings.TrimSpace(out.String()), nil
}
