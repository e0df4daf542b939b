package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/targets/native"
)

// labs launches standing labs with the binary under test.
type labs struct {
	*bench
	state string // the directory of this flight's journals and folders
}

// fresh gives the next lab a state directory of its own (apart says why).
func (l *labs) fresh() (err error) {
	l.state, err = l.apart()
	return err
}

// command runs a command of the binary, and returns how long it took.
func (l *labs) command(ctx context.Context, env []string, args ...string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.bench.simian, append([]string{"--state", l.state}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	var said bytes.Buffer
	cmd.Stderr = &said
	began := time.Now()
	err := cmd.Run()
	took := time.Since(began)
	if err != nil {
		return took, fmt.Errorf("%v: %w: %s", args, err, bytes.TrimSpace(said.Bytes()))
	}
	return took, nil
}

// compose writes a Compose file with one service of n replicas, and returns
// the name of its lab.
func (l *labs) compose(n int, mode string, init bool) (file, name string, err error) {
	name = fmt.Sprintf("bench%d", n)
	file = filepath.Join(l.dir, name+".yaml")
	at := limits()
	text := fmt.Sprintf(`name: %s
services:
  c:
    image: first
    x-simian: {rootfs: %s}
    entrypoint: [%s, %s]
    init: %t
    cpus: %v
    mem_limit: %d
    pids_limit: %d
    deploy: {replicas: %d}
`, name, l.rootfs, program, mode, init, at.CPUs, at.MemoryBytes, at.Pids, n)
	return file, name, os.WriteFile(file, []byte(text), 0o600)
}

// fly launches a lab of n, and takes it down.
func (l *labs) fly(ctx context.Context, n int) (f flight, err error) {
	file, name, err := l.compose(n, stay, false)
	if err != nil {
		return f, err
	}
	if f.up, err = l.up(ctx, file, nil); err != nil {
		return f, err
	}
	f.down, err = l.down(ctx, name)
	return f, err
}

// up launches a lab.
func (l *labs) up(ctx context.Context, file string, env []string) (time.Duration, error) {
	if err := l.fresh(); err != nil {
		return 0, err
	}
	return l.command(ctx, env, "lab", "up", file)
}

func (l *labs) down(ctx context.Context, name string) (time.Duration, error) {
	return l.command(ctx, nil, "lab", "down", "--now", name)
}

// standing returns the state of the one lab that stands.
func (l *labs) standing() (native.State, error) {
	all, err := native.Labs(proc.Host(), l.state)
	if err != nil {
		return native.State{}, err
	}
	if len(all) != 1 {
		return native.State{}, fmt.Errorf("%d labs stand, want one", len(all))
	}
	return all[0], nil
}

// with launches a lab, has fn look at it, and takes it down.
func (l *labs) with(ctx context.Context, file, name string, env []string, fn func(native.State) error) error {
	if _, err := l.up(ctx, file, env); err != nil {
		return err
	}
	s, err := l.standing()
	if err == nil {
		err = fn(s)
	}
	_, down := l.down(ctx, name)
	return errors.Join(err, down)
}
