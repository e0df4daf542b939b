package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/targets"
	"github.com/simianhq/simian/targets/native"
)

// crash is a fault in force when Simian is killed.
type crash struct {
	name string
	args []string
	back []float64 // ms from SIGKILL until the container is as it was
	look float64   // ms that one look at it takes
}

// crashes kills Simian in the midst of each fault.
func (b *bench) crashes(ctx context.Context) (err error) {
	name, err := b.start(ctx, "--cpus", "1")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove(name)) }()
	w, err := b.watcher(ctx, name)
	if err != nil {
		return err
	}
	for _, c := range []*crash{
		{name: "frozen", args: []string{"freeze"}},
		{name: "delayed", args: []string{"latency", "--delay", "100ms"}},
		{name: "throttled", args: []string{"throttle", "--cpus", "0.2"}},
	} {
		for range b.rounds {
			if err := b.crashOnce(ctx, w, c); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		b.crashed = append(b.crashed, c)
		b.say("%s: back after %.1f ms, at worst %.1f ms", c.name, median(c.back), slices.Max(c.back))
	}
	return nil
}

func (b *bench) crashOnce(ctx context.Context, w *watcher, c *crash) error {
	before, err := w.state(ctx)
	if err != nil {
		return err
	}
	var said bytes.Buffer
	cmd := b.own(ctx, append([]string{"inject", c.args[0], "--docker", w.target.Name, "--for", "1m"}, c.args[1:]...)...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return err
	}
	_, forced := w.until(ctx, func(now string) bool { return now != before })
	if forced == nil {
		time.Sleep(100 * time.Millisecond) // all of it
	}
	killed := time.Now()
	_ = cmd.Process.Kill()
	took, back := w.until(ctx, func(now string) bool { return now == before })
	_ = cmd.Wait()
	if err := errors.Join(forced, back); err != nil {
		return fmt.Errorf("%w: %s", err, said.String())
	}
	c.back, c.look = append(c.back, ms(took.Sub(killed))), w.look
	time.Sleep(100 * time.Millisecond) // the guardian ends
	return nil
}

// watcher looks at all that a fault may change of a container.
type watcher struct {
	fs     proc.FS
	target experiment.Target
	look   float64 // ms that the last look took
}

func (b *bench) watcher(ctx context.Context, name string) (*watcher, error) {
	fs := proc.Host()
	all, err := targets.All(fs, native.NewCurrent(fs))["docker"]().Select(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		if t.Name == name {
			return &watcher{fs: fs, target: t}, nil
		}
	}
	return nil, fmt.Errorf("%s is not among the targets", name)
}

func (w *watcher) state(ctx context.Context) (string, error) {
	start := time.Now()
	seen, err := w.fs.Observe(ctx, w.target)
	var lines []string
	for _, o := range seen {
		lines = append(lines, o.Object+"\n"+strings.Join(o.Lines, "\n"))
	}
	slices.Sort(lines)
	w.look = ms(time.Since(start))
	return strings.Join(lines, "\n"), err
}

// until looks again and again, and returns when it was so.
func (w *watcher) until(ctx context.Context, so func(string) bool) (time.Time, error) {
	for end := time.Now().Add(patience); ; {
		now, err := w.state(ctx)
		switch at := time.Now(); {
		case err != nil:
			return at, err
		case so(now):
			return at, nil
		case at.After(end):
			return at, fmt.Errorf("%s does not come to be as it should:\n%s", w.target.Name, now)
		}
	}
}
