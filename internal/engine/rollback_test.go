package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/engine"
	"github.com/simianhq/simian/internal/journal"
)

// crash is what a runner leaves that is killed at a write of its journal.
type crash struct {
	run     experiment.RunID
	lines   []string          // of its journal
	world   map[string]string // by setting
	kind    experiment.EventKind
	handles map[string]experiment.RunID
}

// camera takes a picture before and after each write of the journal: of all
// moments at which a killed runner could leave the world.
type camera struct {
	*journal.Store
	lab      *lab
	pictures []crash
}

func (c *camera) Append(ctx context.Context, e experiment.Event) error {
	c.shoot(e.Run, e.Kind)
	err := c.Store.Append(ctx, e)
	c.shoot(e.Run, e.Kind)
	return err
}

func (c *camera) shoot(run experiment.RunID, kind experiment.EventKind) {
	data, err := os.ReadFile(filepath.Join(c.lab.dir, "open", string(run)+".jsonl"))
	must(c.lab.t, err)
	c.lab.handles.mu.Lock()
	defer c.lab.handles.mu.Unlock()
	c.pictures = append(c.pictures, crash{run, slices.Collect(strings.Lines(string(data))), c.lab.settings(), kind, maps.Clone(c.lab.handles.held)})
}

func (l *lab) settings() map[string]string {
	all := map[string]string{}
	for s := range strings.Lines(l.world.Snapshot()) {
		setting, value, _ := strings.Cut(strings.TrimSpace(s), " = ")
		all[setting] = value
	}
	return all
}

// crashes runs spec, and returns each moment at which it could have died.
func (l *lab) crashes(spec string) []crash {
	l.t.Helper()
	c := &camera{Store: l.store, lab: l}
	real := l.engine
	l.engine = l.newEngine(c)
	l.engine.Lab, l.engine.LabSummary = real.Lab, real.LabSummary
	o := l.run(spec)
	must(l.t, o.err)
	l.engine = real
	l.on = nil
	return c.pictures
}

// at returns the moment right after the last event of a kind was written.
func at(crashes []crash, kind experiment.EventKind) crash {
	for _, c := range slices.Backward(crashes) {
		if c.kind == kind {
			return c
		}
	}
	return crash{}
}

// revive makes the world and the journal as they were at c, and forgets what
// ops did until then.
func (l *lab) revive(c crash) {
	l.t.Helper()
	for setting, value := range c.world {
		must(l.t, l.world.Set(setting, value))
	}
	if err := os.Remove(filepath.Join(l.world.Dir, "log")); err != nil && !errors.Is(err, os.ErrNotExist) {
		l.t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(l.dir, "done", string(c.run)+".jsonl"))
	must(l.t, os.WriteFile(l.path(c.run), []byte(strings.Join(c.lines, "")), 0o600))
	l.handles.mu.Lock()
	defer l.handles.mu.Unlock()
	l.handles.held = maps.Clone(c.handles)
	if l.handles.held == nil {
		l.handles.held = map[string]experiment.RunID{}
	}
}

func (l *lab) path(run experiment.RunID) string {
	return filepath.Join(l.dir, "open", string(run)+".jsonl")
}

// TestCrash dies before and after each write of the journal, and sweeps.
func TestCrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "web-1", "db-1")
		l.system.set("web-1", "as ever")
		for n, c := range l.crashes(checked) {
			l.revive(c)
			swept, err := l.engine.Sweep(t.Context())
			if err != nil || len(swept) != 1 && len(c.lines) > 0 {
				t.Errorf("crash %d: swept %v, %v", n, swept, err)
			}
			l.allOK(t)
			if open := l.open(); len(open) > 0 || l.handles.count() > 0 {
				t.Errorf("crash %d: open %v, %d handles", n, open, l.handles.count())
			}
			if l.world.Count("set", "") > 0 || l.world.Count("reset", experimenttest.Begun) > 2 {
				t.Errorf("crash %d: the sweep applied\n%v", n, must2(l.world.Log()))
			}
			if len(c.lines) > 0 {
				if o := l.read(c.run); len(o.result.Residue) > 0 || o.result.Unfinished {
					t.Errorf("crash %d: residue %q\n%s", n, o.result.Residue, strings.Join(o.tape(), "\n"))
				}
			}
		}
	})
}

func must2[T any](v T, _ error) T { return v }

// TestRollback takes back what another process began.
func TestRollback(t *testing.T) {
	t.Parallel()
	const spec = `
  method:
    - {name: a, fault: {type: set, steps: 2}, target: {type: world, name: web-1}, for: 1h}
    - {name: b, fault: {type: durable}, target: {type: world, name: db-1}, for: 1h, parallel: true}
`
	replace := func(old, with string) func(c *crash) {
		return func(c *crash) {
			for i := range c.lines {
				c.lines[i] = strings.Replace(c.lines[i], old, with, 1)
			}
		}
	}
	damage := func(kind experiment.EventKind, nth int) func(c *crash) {
		return func(c *crash) {
			for i, s := range c.lines {
				if strings.Contains(s, `"kind":"`+string(kind)+`"`) {
					if nth--; nth == 0 {
						c.lines[i] = "{]\n"
					}
				}
			}
		}
	}
	for _, c := range []struct {
		name   string
		change func(c *crash)
		undone []string // settings that are "ok" again
		wants  string   // of the error, where it is refused and untouched
		tape   []string
		says   string // the residue
	}{
		{name: "as it is", undone: []string{"web-1/1", "web-1/2", "db-1/1"}, tape: []string{"takeback 0 runner-died", "undone 1", "undone 2", "undone 3", "end"}},
		{name: "after a reboot", change: replace(`"b1"`, `"b0"`), undone: []string{"db-1/1"}, tape: []string{"undone 3", "end"}},
		{name: "of another machine", change: replace(`"m1"`, `"m0"`), wants: "another machine"},
		{name: "of another PID namespace", change: replace(`"pidNamespace":1`, `"pidNamespace":2`), wants: "another PID namespace"},
		{name: "of another boot and PID namespace", change: func(c *crash) { replace(`"b1"`, `"b0"`)(c); replace(`"pidNamespace":1`, `"pidNamespace":2`)(c) }, undone: []string{"db-1/1"}, tape: []string{"undone 3", "end"}},
		{name: "a later format", change: replace(`"format":1`, `"format":2`), wants: "format 2 is not known"},
		{name: "without its first line", change: damage(experiment.EventBegin, 1), wants: "not a header"},
		{name: "a damaged line", change: damage(experiment.EventApplied, 1), undone: []string{"web-1/1", "web-1/2", "db-1/1"}, tape: []string{"takeback 0 runner-died", "undone 1", "undone 2", "undone 3", "residue", "end"}, says: "the journal is damaged"},
		{name: "a damaged announcement", change: damage(experiment.EventAnnounce, 1), undone: []string{"db-1/1"}, tape: []string{"takeback 0 runner-died", "undone 3", "residue", "end"}, says: "the journal is damaged"},
		{name: "a cut last line", change: func(c *crash) { c.lines = append(c.lines, `{"kind":"samp`) }, undone: []string{"web-1/1", "web-1/2", "db-1/1"}, tape: []string{"takeback 0 runner-died", "undone 1", "undone 2", "undone 3", "end"}},
		{name: "a cut first line", change: func(c *crash) {
			c.lines = []string{c.lines[0][:20]}
			for s := range c.world {
				c.world[s] = "ok"
			}
		}, undone: []string{"web-1/1", "web-1/2", "db-1/1"}},
	} {
		bubble(t, c.name, func(t *testing.T) {
			l := newLab(t, "web-1", "db-1")
			// Both targets are planned at one moment: the second action's
			// steps are 2 where it comes first.
			here := at(l.crashes(strings.Replace(spec, "parallel: true", "after: 1ms, parallel: true", 1)), experiment.EventInjected)
			if c.change != nil {
				c.change(&here)
			}
			l.revive(here)
			before := must2(os.ReadFile(l.path(here.run)))
			err := l.engine.Rollback(t.Context(), here.run, experiment.CauseRunnerDied, true)
			if (err != nil) != (c.wants != "") || err != nil && !strings.Contains(err.Error(), c.wants) {
				t.Fatalf("Rollback: %v, want %q", err, c.wants)
			}
			for setting, was := range here.world {
				want := was
				if slices.Contains(c.undone, setting) {
					want = "ok"
				}
				same(t, setting, l.world.Value(setting), want)
			}
			if c.wants != "" {
				l.untouched(t, here.run, before)
				return
			}
			same(t, "open", len(l.open()), 0)
			o := l.read(here.run)
			if c.tape != nil {
				same(t, "events", o.tape()[len(o.tape())-len(c.tape):], c.tape)
			}
			if residue := strings.Join(o.result.Residue, "\n"); !strings.Contains(residue, c.says) || c.says == "" && residue != "" {
				t.Errorf("residue %q, want %q", residue, c.says)
			}
		})
	}
}

// untouched wants a run's journal to be as it was, and free.
func (l *lab) untouched(t testing.TB, run experiment.RunID, before []byte) {
	t.Helper()
	if after := must2(os.ReadFile(l.path(run))); !bytes.Equal(before, after) {
		t.Errorf("the journal was changed:\n%s", after)
	}
	if n := l.world.Count("", experimenttest.Begun); n > 0 {
		t.Errorf("%d ops were applied", n)
	}
	if l.store.Held(run) {
		t.Error("its lock is still held")
	}
}

// TestRollbackOf asks more of it.
func TestRollbackOf(t *testing.T) {
	t.Parallel()
	bubble(t, "one that hangs holds up no other", func(t *testing.T) {
		l := newLab(t, "web-1", "db-1")
		c := at(l.crashes(`
  method:
    - {name: a, fault: {type: set, undo: {slow: 20s}}, target: {type: world, name: db-1}, for: 1ms}
    - {name: b, fault: {type: set}, target: {type: world, name: web-1}, for: 1ms, parallel: true}
`), experiment.EventInjected)
		l.revive(c)
		must(t, l.engine.Rollback(t.Context(), c.run, experiment.CauseRunnerDied, false))
		o := l.read(c.run)
		took := map[string]time.Duration{}
		began := o.find(experiment.EventTakeBack)[len(o.find(experiment.EventTakeBack))-1].Boot
		for _, e := range o.events {
			if e.Kind == experiment.EventUndone || e.Kind == experiment.EventUndoFail {
				took[string(e.Kind)] = max(took[string(e.Kind)], e.Boot.Sub(began))
			}
		}
		if took["undone"] != 0 || took["undofail"] < 30*time.Second || took["undofail"] > 70*time.Second {
			t.Errorf("it took %v", took)
		}
		o.verdict(t, experiment.Residue)
		same(t, "web-1", l.world.Value("web-1/1"), "ok")
		same(t, "open", l.open(), []experiment.RunID{c.run})
	})
	bubble(t, "a value that others have changed", func(t *testing.T) {
		l := newLab(t, "web-1")
		c := at(l.crashes(plain), experiment.EventInjected)
		l.revive(c)
		must(t, l.world.Set("web-1/1", "theirs"))
		must(t, l.engine.Rollback(t.Context(), c.run, experiment.CauseRunnerDied, false))
		o := l.read(c.run)
		same(t, "it", l.world.Value("web-1/1"), "theirs")
		same(t, "superseded", len(o.result.Superseded), 1)
		o.verdict(t, experiment.Aborted)
	})
	bubble(t, "one that is finished", func(t *testing.T) {
		l := newLab(t, "web-1")
		o := l.run(plain)
		if err := l.engine.Rollback(t.Context(), o.run, experiment.CauseRunnerDied, true); !errors.Is(err, journal.ErrFinished) {
			t.Errorf("it gives %v", err)
		}
		if err := l.engine.Rollback(t.Context(), "zzzzzz", experiment.CauseRunnerDied, true); !errors.Is(err, journal.ErrNoRun) {
			t.Errorf("of no run it gives %v", err)
		}
	})
	bubble(t, "on a context that ends meanwhile", func(t *testing.T) {
		l := newLab(t, "web-1")
		c := at(l.crashes(plain), experiment.EventInjected)
		l.revive(c)
		ctx, cancel := context.WithCancel(t.Context())
		e := l.newEngine(&onLock{l.store, cancel})
		_ = e.Rollback(ctx, c.run, experiment.CauseRunnerDied, false)
		l.allOK(t)
	})
	bubble(t, "a patient one waits for the workloads", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2")
		c := at(l.crashes("\n  method:\n    - {fault: {type: set}, target: {type: world, name: web-1}, for: 1s}\n  recovery: {within: 7s}\n"), experiment.EventInjected)
		l.revive(c)
		must(t, l.world.Remove("web-1"))
		start := time.Now()
		must(t, l.engine.Rollback(t.Context(), c.run, experiment.CauseRunnerDied, true))
		if took := time.Since(start); took != 7*time.Second || !l.read(c.run).has("gaps") {
			t.Errorf("it waited %s", took)
		}
	})
}

// onLock calls fn once the lock is taken.
type onLock struct {
	*journal.Store
	fn func()
}

func (o *onLock) Lock(ctx context.Context, run experiment.RunID) error {
	err := o.Store.Lock(ctx, run)
	o.fn()
	return err
}

func TestSweep(t *testing.T) {
	t.Parallel()
	bubble(t, "a live run is left alone", func(t *testing.T) {
		l := newLab(t, "web-1")
		c := at(l.crashes(plain), experiment.EventInjected)
		l.revive(c)
		runner := l.newStore()
		must(t, runner.Lock(t.Context(), c.run))
		before := must2(os.ReadFile(l.path(c.run)))
		swept, err := l.engine.Sweep(t.Context())
		if err != nil || len(swept) != 0 {
			t.Errorf("it swept %v, %v", swept, err)
		}
		if n := l.world.Count("", experimenttest.Begun); n > 0 || !bytes.Equal(before, must2(os.ReadFile(l.path(c.run)))) {
			t.Errorf("%d ops were applied", n)
		}
	})
	bubble(t, "another machine's does not hinder", func(t *testing.T) {
		l := newLab(t, "web-1")
		c := at(l.crashes(plain), experiment.EventInjected)
		c.lines[0] = strings.Replace(c.lines[0], `"m1"`, `"m0"`, 1)
		l.revive(c)
		if swept, err := l.engine.Sweep(t.Context()); err != nil || len(swept) != 0 {
			t.Errorf("it swept %v, %v", swept, err)
		}
	})
}

// TestTogether has sweeps and rollbacks race for one run, each with a store
// of its own, as processes have: each undo is applied once.
func TestTogether(t *testing.T) {
	t.Parallel()
	l := newLab(t, "web-1", "db-1")
	c := at(l.crashes(strings.ReplaceAll(checked, "500ms", "20ms")), experiment.EventInjected)
	for range 5 {
		l.revive(c)
		var wg sync.WaitGroup
		for i := range 6 {
			e := l.newEngine(l.newStore())
			wg.Go(func() {
				var err error
				if i%2 == 0 {
					_, err = e.Sweep(context.Background())
				} else {
					err = e.Rollback(context.Background(), c.run, experiment.CauseRunnerDied, false)
				}
				if err != nil && !errors.Is(err, journal.ErrFinished) {
					t.Errorf("%v", err)
				}
			})
		}
		wg.Wait()
		l.allOK(t)
		undone := map[string]int{}
		for _, r := range must2(l.world.Log()) {
			if r.Did == experimenttest.Begun {
				undone[r.Op+filepath.Base(r.Path)]++
			}
		}
		for op, n := range undone {
			if n != 1 {
				t.Fatalf("%s was applied %d times", op, n)
			}
		}
		same(t, "open", len(l.open()), 0)
	}
}

// broken is a journal that cannot be written from the nth event on, or at the
// nth alone.
type broken struct {
	*journal.Store
	mu   sync.Mutex
	n    int
	once bool
	kind experiment.EventKind // of the event that was the first to fail
}

func (b *broken) Append(ctx context.Context, e experiment.Event) error {
	b.mu.Lock()
	b.n--
	fails := b.n == 0 || b.n < 0 && !b.once
	if b.n == 0 {
		b.kind = e.Kind
	}
	b.mu.Unlock()
	if fails {
		return errors.New("no space left on device")
	}
	return b.Store.Append(ctx, e)
}

var _ engine.Journals = (*broken)(nil)

// TestJournalFails fails at each write of the journal.
func TestJournalFails(t *testing.T) {
	t.Parallel()
	for _, once := range []bool{true, false} {
		bubble(t, fmt.Sprintf("once %v", once), func(t *testing.T) {
			for n := 1; ; n++ {
				l := newLab(t, "web-1", "db-1")
				b := &broken{Store: l.store, n: n, once: once}
				l.engine = l.newEngine(b)
				o := l.run(checked)
				if b.kind == "" {
					must(t, o.err)
					o.tidy(t)
					if n < 30 {
						t.Errorf("%d writes only", n)
					}
					return
				}
				l.afterFailure(t, o, b)
			}
		})
	}
}

func (l *lab) afterFailure(t *testing.T, o *outcome, b *broken) {
	t.Helper()
	at := fmt.Sprintf("%s (event %d)", b.kind, len(o.events)+1)
	l.allOK(t)
	if o.err == nil || !strings.Contains(o.err.Error(), "write journal") || !strings.Contains(o.err.Error(), "no space left") {
		t.Errorf("%s: Run gives %v", at, o.err)
	}
	if b.kind == experiment.EventAnnounce && l.injected() > 2 || !slices.ContainsFunc(o.events, func(e experiment.Event) bool { return e.Kind == experiment.EventAnnounce }) && l.injected() > 0 {
		t.Errorf("%s: %d changes, though not announced", at, l.injected())
	}
	if l.guardian.standing() || l.store.Held(o.run) {
		t.Errorf("%s: a guardian or the lock is left", at)
	}
	// It stays open: the next sweep looks again, now that it can write.
	if swept, err := l.newEngine(l.newStore()).Sweep(t.Context()); err != nil || len(swept) > 1 {
		t.Errorf("%s: swept %v, %v", at, swept, err)
	}
	l.allOK(t)
	if open := l.open(); len(open) > 0 || l.handles.count() > 0 {
		t.Errorf("%s: after a sweep: open %v, %d handles", at, open, l.handles.count())
	}
}
