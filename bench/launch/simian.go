package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/labnet"
	"github.com/simianhq/simian/internal/seccomp"
)

// simian launches as the supervisor of a lab does, in this process: all that
// a lab's container gets, in the same order as in targets/native.
type simian struct {
	*bench
	launcher *box.Launcher
	net      *labnet.Net
	filter   []unix.SockFilter
	count    atomic.Int64
	under    string // the folder of this flight's containers
}

func (b *bench) supervisor(ctx context.Context) (*simian, error) {
	s := &simian{bench: b}
	var err error
	if s.launcher, err = box.NewLauncher(b.fs); err != nil {
		return nil, err
	}
	b.closers = append(b.closers, s.launcher.Close)
	if s.net, err = labnet.New(ctx, labnet.Config{Run: b.name, Networks: []labnet.Network{{Name: "default"}}}); err != nil {
		return nil, err
	}
	b.closers = append(b.closers, s.net.Close)
	s.filter, err = seccomp.Default(box.DefaultCaps())
	return s, err
}

// ready implements tool.
func (s *simian) ready(int) (err error) {
	s.under, err = s.apart()
	return err
}

// launch implements tool.
func (s *simian) launch(ctx context.Context, _ int, mode string, io box.Stdio) (func() error, error) {
	name := fmt.Sprintf("c-%d", s.count.Add(1))
	c := &boxed{dir: filepath.Join(s.under, name)}
	if err := c.start(ctx, s, name, mode, io); err != nil {
		return nil, errors.Join(err, c.clear(ctx))
	}
	return func() error {
		var err error
		if exit := c.process.Wait(); !exit.Success() {
			err = errors.New(exit.String())
		}
		return errors.Join(err, c.clear(ctx))
	}, nil
}

// boxed is one container that simian has launched.
type boxed struct {
	dir     string
	port    *labnet.Port
	cgroup  *box.Cgroup
	process *box.Process
}

func (c *boxed) start(ctx context.Context, s *simian, name, mode string, io box.Stdio) (err error) {
	spec := &box.Spec{
		Name: name, Hostname: name, Args: []string{program, mode}, Env: []string{"HOSTNAME=" + name},
		Lower: []string{s.rootfs}, Upper: filepath.Join(c.dir, "layer/upper"), Work: filepath.Join(c.dir, "layer/work"),
		Caps: box.DefaultCaps(), Seccomp: s.filter, NoNewPrivs: true,
	}
	if err := errors.Join(os.MkdirAll(spec.Upper, 0o755), os.MkdirAll(spec.Work, 0o755)); err != nil {
		return err
	}
	made := make(chan error, 1)
	go func() {
		var err error
		c.cgroup, err = box.NewCgroup(s.fs, s.name+"/"+name, limits())
		made <- err
	}()
	err = c.surround(ctx, s, spec)
	if err := errors.Join(err, <-made); err != nil {
		return err
	}
	spec.Cgroup = c.cgroup
	if c.process, err = s.launcher.Start(ctx, spec, io); err != nil {
		return err
	}
	c.port.SetRunning(true)
	return nil
}

// surround puts the container into the network, and writes its files.
func (c *boxed) surround(ctx context.Context, s *simian, spec *box.Spec) (err error) {
	if c.port, err = s.net.Join(ctx, labnet.Endpoint{Name: spec.Name, Service: "c", On: []labnet.Attachment{{Network: "default"}}}); err != nil {
		return err
	}
	spec.Net = c.port.NetNS()
	for _, file := range []string{"hosts", "hostname", "resolv.conf"} {
		source := filepath.Join(c.dir, file)
		if err := os.WriteFile(source, []byte(spec.Name+"\n"), 0o644); err != nil {
			return err
		}
		spec.Mounts = append(spec.Mounts, box.Mount{Type: "bind", Source: source, Target: "/etc/" + file})
	}
	return nil
}

// clear takes all of it away.
func (c *boxed) clear(ctx context.Context) error {
	var err error
	if c.cgroup != nil {
		err = c.cgroup.Remove(ctx)
	}
	if c.port != nil {
		c.port.Close()
	}
	return errors.Join(err, os.RemoveAll(c.dir))
}
