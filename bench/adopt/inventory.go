package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// listing is how long it takes to list many containers.
type listing struct {
	running  int
	list     []float64 // ms, simian targets docker
	selected []float64 // ms, one of all of them drawn: simian plan
	peak     float64   // MiB, resident, of simian targets
}

// inventory lists as many containers as are asked for, all of which run.
func (b *bench) inventory(ctx context.Context) (err error) {
	var names []string
	defer func() {
		if len(names) > 0 {
			err = errors.Join(err, remove(names...))
		}
	}()
	for range b.many {
		name, err := b.start(ctx, "--network", "none", "--label", "bench=many")
		if err != nil {
			return err
		}
		names = append(names, name)
	}
	b.listed.running = len(names)
	for range b.rounds {
		if err := b.listOnce(ctx, names); err != nil {
			return err
		}
	}
	b.say("%d containers: listed in %.1f ms", len(names), median(b.listed.list))
	return nil
}

func (b *bench) listOnce(ctx context.Context, names []string) error {
	c := b.own(ctx, "targets", "docker", "-o", "json")
	start := time.Now()
	out, err := c.Output()
	took := time.Since(start)
	if err != nil {
		return fmt.Errorf("simian targets: %w", err)
	}
	for _, name := range names {
		if !bytes.Contains(out, []byte(`"`+name+`"`)) {
			return fmt.Errorf("simian targets does not list %s", name)
		}
	}
	b.listed.list = append(b.listed.list, ms(took))
	if used, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
		b.listed.peak = max(b.listed.peak, float64(used.Maxrss)/1024)
	}
	return b.selectOnce(ctx)
}

// selectOnce draws one of all and plans a fault on it, which changes nothing.
func (b *bench) selectOnce(ctx context.Context) error {
	file, err := b.own(ctx, "inject", "freeze", "--docker", "bench=many", "--for", "1s", "--print").Output()
	if err != nil {
		return fmt.Errorf("simian inject --print: %w", err)
	}
	c := b.own(ctx, "plan", "-")
	c.Stdin = strings.NewReader(string(file))
	start := time.Now()
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("simian plan: %w: %s", err, out)
	}
	b.listed.selected = append(b.listed.selected, ms(time.Since(start)))
	return nil
}
