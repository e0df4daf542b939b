package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/targets/native"
)

// compose is the lab of a launched subject: DIR is its folder.
const compose = `
name: faults
services:
  web:
    x-simian: {rootfs: DIR/root}
    entrypoint: [/subject, serve, /shared, ":7001", ":7002"]
    restart: always
    stop_grace_period: 1s
    cpus: 1
    cpuset: "0-1" # on version 2 an empty one could not be put back
    mem_limit: 64m
    pids_limit: 64
    ulimits: {nofile: {soft: 1024, hard: 1024}} # Go raises a soft one as it starts
    volumes:
      - DIR/web:/shared
      - data:/data
    tmpfs: ["/scratch:size=16m"]
  peer:
    x-simian: {rootfs: DIR/root}
    entrypoint: [/subject, serve, /shared, ":7001", ":7002"]
    volumes: [DIR/peer:/shared]
volumes: {data: {}}
`

// limits are those of a raw service, the same as the container's.
var limits = box.Limits{CPUs: 1, CPUSet: "0-1", MemoryBytes: 64 << 20, Pids: 64}

// launch launches a lab as `simian lab up` does.
func (s *subject) launch(t testing.TB) {
	t.Helper()
	s.root(t)
	file := filepath.Join(s.base, "compose.yaml")
	must(t, os.WriteFile(file, []byte(strings.ReplaceAll(compose, "DIR", s.base)), 0o644))
	p, err := native.Load(t.Context(), []string{file}, native.LoadOptions{})
	must(t, err)
	state := filepath.Join(s.base, "state")
	l := &lab{Lab: native.NewLab(p, native.Env{FS: host, State: state, Images: filepath.Join(state, "images")}), t: t}
	s.lab.Launch(l.Lab)
	l.up(t)
	s.dir, s.pick = filepath.Join(s.base, "web"), "type: native, service: web"
	s.answers(t)
	s.peer = filepath.Join(s.base, "peer")
	address := func(name string) string {
		said := s.answer("resolve", name)
		return said[strings.LastIndexByte(said, ' ')+1:]
	}
	s.words = map[string]string{
		"$PEER": address("peer"), "$SELF": address("web"), "$PORT": "7001", "$WEB": "7002",
		"$DATA": "/data", "$SCRATCH": "/scratch", "$SUBJECT": "/subject", "$TO": "type: native, service: peer", "$FAR": "peer",
	}
}

// root makes the root that both containers have.
func (s *subject) root(t testing.TB) {
	t.Helper()
	file, err := program()
	must(t, err)
	for _, dir := range []string{"root/etc", "web", "peer"} {
		must(t, os.MkdirAll(filepath.Join(s.base, dir), 0o755))
	}
	must(t, os.Link(file, filepath.Join(s.base, "root/subject")))
	must(t, os.WriteFile(filepath.Join(s.base, "root/etc/passwd"), []byte("root:x:0:0::/:\n"), 0o644))
}

// lab is a lab, and what the engine is to it.
type lab struct {
	*native.Lab
	t     testing.TB
	steps []experiment.PlannedStep
}

func (l *lab) up(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	run := newRun()
	must(t, l.Prepare(ctx, run))
	var err error
	l.steps, err = l.Steps(run)
	must(t, err)
	t.Cleanup(l.down)
	for i := range l.steps {
		l.steps[i].N = i + 1
	}
	apply := func(ctx context.Context, s experiment.PlannedStep) error { return s.Do.Apply(ctx) }
	must(t, l.Up(ctx, l.steps, apply, func(experiment.ContainerMark) {}))
}

// down takes the lab down as the engine does: it rests, then the containers
// are taken back side by side, and then what they stood on.
func (l *lab) down() {
	l.Rest()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	undo := func(s experiment.PlannedStep) {
		if err := s.Undo.Apply(ctx); err != nil && !errors.Is(err, experiment.ErrGone) {
			l.t.Errorf("%s: %v", s.Undo, err)
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
	if err := l.Close(); err != nil {
		l.t.Error(fmt.Errorf("close the lab: %w", err))
	}
}
