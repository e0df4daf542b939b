package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/monkeys"
	"github.com/simianhq/simian/targets"
	"github.com/simianhq/simian/targets/native"
)

// compose is the lab: a container for each quota, one with a limit of memory,
// and one with all that a fault can need. DIR is its folder.
const compose = `
name: figures
services:
  cpu-0.1: &subject
    x-simian: {rootfs: DIR/root}
    entrypoint: [/subject, serve]
    cpus: 0.1
  cpu-0.5: {<<: *subject, cpus: 0.5}
  cpu-1.5: {<<: *subject, cpus: 1.5}
  memory: {<<: *subject, cpus: 2, mem_limit: 256m}
  web:
    <<: *subject
    restart: always
    stop_grace_period: 1s
    cpus: 1
    mem_limit: 64m
    pids_limit: 64
    volumes: [data:/data]
    tmpfs: ["/scratch:size=16m"]
  peer: {<<: *subject, cpus: 1}
volumes: {data: {}}
`

// patience is how long a thing may take to be as it should.
const patience = 15 * time.Second

//go:embed testdata/subject/main.go
var subject []byte

// lab is the containers that are broken, and what the engine is to them.
type lab struct {
	*native.Lab
	fs      proc.FS
	current *native.Current
	steps   []experiment.PlannedStep
	runs    uint64
}

// newLab launches it as `simian lab up` does. The lab is returned with an
// error too, to be taken down.
func newLab(ctx context.Context, fs proc.FS, dir string) (*lab, error) {
	if err := buildRoot(ctx, filepath.Join(dir, "root")); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "compose.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(compose, "DIR", dir)), 0o644); err != nil {
		return nil, err
	}
	p, err := native.Load(ctx, []string{file}, native.LoadOptions{})
	if err != nil {
		return nil, err
	}
	state := filepath.Join(dir, "state")
	l := &lab{fs: fs, current: native.NewCurrent(fs)}
	l.Lab = native.NewLab(p, native.Env{FS: fs, State: state, Images: filepath.Join(state, "images")})
	l.current.Launch(l.Lab)
	return l, l.up(ctx)
}

// buildRoot makes the root that all containers have.
func buildRoot(ctx context.Context, root string) error {
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		return err
	}
	source := filepath.Join(filepath.Dir(root), "subject.go")
	err := errors.Join(
		os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0::/:\n"), 0o644),
		os.WriteFile(source, subject, 0o644))
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", filepath.Join(root, "subject"), source)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build the subject: %w\n%s", err, out)
	}
	return nil
}

func (l *lab) up(ctx context.Context) error {
	run := l.newRun()
	if err := l.Prepare(ctx, run); err != nil {
		return err
	}
	var err error
	if l.steps, err = l.Steps(run); err != nil {
		return err
	}
	for i := range l.steps {
		l.steps[i].N = i + 1
	}
	apply := func(ctx context.Context, s experiment.PlannedStep) error { return s.Do.Apply(ctx) }
	return l.Up(ctx, l.steps, apply, func(experiment.ContainerMark) {})
}

// down takes the lab down as the engine does: it rests, then the containers
// are taken back side by side, and then what they stood on.
func (l *lab) down() error {
	l.Rest()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	var mu sync.Mutex
	var errs []error
	undo := func(s experiment.PlannedStep) {
		if err := s.Undo.Apply(ctx); err != nil && !errors.Is(err, experiment.ErrGone) {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, fmt.Errorf("%s: %w", s.Undo, err))
		}
	}
	var wg sync.WaitGroup
	for _, s := range l.steps {
		if s.Target != "" {
			wg.Go(func() { undo(s) })
		}
	}
	wg.Wait()
	for _, s := range slices.Backward(l.steps) {
		if s.Target == "" {
			undo(s)
		}
	}
	return errors.Join(append(errs, l.Close())...)
}

// action is a fault on a service, as it stands in a file.
func (l *lab) action(service, section string) (*experiment.Action, error) {
	loader := experiment.Loader{Faults: monkeys.Faults(l.fs), Targets: targets.All(l.fs, l.current)}
	e, err := loader.Load("figures.yaml", fmt.Appendf(nil, `apiVersion: %s
kind: %s
metadata: {name: figures}
spec:
  lab: {compose: compose.yaml}
  method:
    - {fault: %s, target: {type: native, service: %s}, for: 1m, irreversible: true}
`, experiment.APIVersion, experiment.Kind, section, service), nil)
	if err != nil {
		return nil, err
	}
	return &e.Spec.Method[0], nil
}

// target is what an action is of, once it runs.
func (l *lab) target(ctx context.Context, a *experiment.Action) (experiment.Target, error) {
	for end := time.Now().Add(patience); ; {
		found, err := a.Target.Selector.Select(ctx)
		if len(found) == 1 {
			return found[0], nil
		}
		if time.Now().After(end) {
			return experiment.Target{}, fmt.Errorf("find the container: %d run: %w", len(found), err)
		}
		if err := wait(ctx, 2*time.Millisecond); err != nil { // it is being started again
			return experiment.Target{}, err
		}
	}
}

// newRun names a run as no other on this host is called.
func (l *lab) newRun() experiment.RunID {
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	l.runs++
	n := uint64(os.Getpid())<<16 ^ uint64(time.Now().UnixNano())<<8 + l.runs
	id := make([]byte, 6)
	for i := range id {
		id[i] = letters[n%32]
		n /= 32
	}
	return experiment.RunID(id)
}
