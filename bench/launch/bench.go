package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/proc"
)

// bench is what all parts share.
type bench struct {
	options
	fs     proc.FS
	name   string // of the cgroup that all is below
	dir    string // for all files; gone afterwards
	rootfs string // of every container: the workload, and where to mount
	room   *room  // where the tools are started
	labs   *labs
	report report

	closers []func() error
}

func newBench(ctx context.Context, o options) (*bench, error) {
	b := &bench{options: o, fs: proc.Host(), name: fmt.Sprintf("simian-bench-%d", os.Getpid())}
	if err := b.open(ctx); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *bench) open(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", b.name+"-"); err != nil {
		return err
	}
	b.closers = append(b.closers, func() error { return os.RemoveAll(b.dir) })
	b.closers = append(b.closers, func() error { return box.RemoveCgroup(context.Background(), b.fs, b.name) })
	b.rootfs = filepath.Join(b.dir, "rootfs")
	if err := errors.Join(os.Mkdir(b.runDir(), 0o700), os.Mkdir(b.spread(), 0o700)); err != nil {
		return err
	}
	spread(b.spread())
	language, err := buildRoot(ctx, b.rootfs)
	if err != nil {
		return err
	}
	b.labs = &labs{bench: b}
	b.report.Host = host()
	b.report.Host.Workload = language
	b.report.Host.LoadBefore = load()
	if b.room, err = newRoom(b.enterRoom); err != nil {
		return err
	}
	b.closers = append(b.closers, b.room.close)
	return nil
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

// runDir is where the tools keep their state.
func (b *bench) runDir() string { return filepath.Join(b.dir, "run") }

// measure does the parts that are asked for.
func (b *bench) measure(ctx context.Context) error {
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{{"launch", b.launches}, {"memory", b.memory}, {"shop", b.shopUp}, {"kill", b.kills}} {
		if !b.wants(part.name) {
			continue
		}
		if err := part.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	b.report.Host.LoadAfter = load()
	return nil
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "launch: "+format+"\n", args...)
}
