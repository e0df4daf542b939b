package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/simianhq/simian/internal/proc"
)

// bench is what all parts share.
type bench struct {
	options
	fs      proc.FS
	dir     string // for all files; gone afterwards
	lab     *lab
	stress  *stress
	results results

	closers []func() error
}

// results are what the page is made of.
type results struct {
	machine machine
	cpu     []cpuRow
	memory  []memoryRow
	io      []ioRow
	times   []*timesRow
	missing []string // what was not measured, and why
}

func newBench(ctx context.Context, o options) (*bench, error) {
	b := &bench{options: o, fs: proc.Host()}
	b.results.machine = thisMachine()
	if err := b.open(ctx); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *bench) open(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", fmt.Sprintf("simian-bench-%d-", os.Getpid())); err != nil {
		return err
	}
	b.closers = append(b.closers, func() error { return os.RemoveAll(b.dir) })
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return err
	}
	if b.stress, err = newStress(ctx, b.fs, b.dir); err != nil {
		b.lack("stress-ng: %v", err)
	}
	b.results.machine.stress = b.stress.version()
	b.lab, err = newLab(ctx, b.fs, b.dir)
	if b.lab != nil {
		b.closers = append(b.closers, b.lab.down)
	}
	return err
}

// close cleans up, what came last first.
func (b *bench) close() error {
	var errs []error
	for i := len(b.closers) - 1; i >= 0; i-- {
		errs = append(errs, b.closers[i]())
	}
	b.closers = nil
	return errors.Join(errs...)
}

// measure does the parts that are asked for.
func (b *bench) measure(ctx context.Context) error {
	start := time.Now()
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{{"cpu", b.cpu}, {"memory", b.memory}, {"io", b.io}, {"times", b.times}} {
		if !b.wants(part.name) {
			continue
		}
		if err := part.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	b.results.machine.finish(start)
	return nil
}

// lack notes what could not be measured, and why.
func (b *bench) lack(format string, args ...any) {
	b.results.missing = append(b.results.missing, fmt.Sprintf(format, args...))
	b.say(format, args...)
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "chaos: "+format+"\n", args...)
}

// wait returns when it is over, or with why not.
func wait(ctx context.Context, long time.Duration) error {
	select {
	case <-time.After(long):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
