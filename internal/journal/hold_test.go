package journal

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

func TestLockIsFreeOnceItsHolderIsKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := storeAt(t, dir)
	cmd := holding(t, "create", dir)
	wantErr(t, s.TryLock(testRun), experiment.ErrBusy)
	if !s.Held(testRun) {
		t.Error("a held lock does not look so")
	}
	waited, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	wantErr(t, s.Lock(waited, testRun), context.DeadlineExceeded)

	done := make(chan error, 1)
	go func() { done <- s.Lock(t.Context(), testRun) }()
	time.Sleep(20 * time.Millisecond)
	must(t, cmd.Process.Signal(unix.SIGKILL))
	cmd.Wait()
	reaped := time.Now()
	must(t, <-done)
	t.Logf("lock taken over %v after the holder was reaped", time.Since(reaped))
	if events, err := s.Events(t.Context(), testRun); err != nil || len(events) != 2 {
		t.Errorf("read %d events, %v", len(events), err)
	}
	must(t, s.Finish(testRun))
	if s.Held(testRun) {
		t.Error("a finished run looks alive")
	}
}

func TestOneOfManyTakesARunOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	storeAt(t, dir)
	first := holding(t, "create", dir)
	var all sync.WaitGroup
	outputs := make([]string, 4)
	for i := range outputs {
		cmd := child(t, "take", dir)
		all.Go(func() { outputs[i] = output(t, cmd) })
	}
	time.Sleep(50 * time.Millisecond)
	must(t, first.Process.Kill())
	all.Wait()
	won, lost := 0, 0
	for _, out := range outputs {
		switch {
		case out == "won\n":
			won++
		case strings.HasSuffix(out, ": the run is finished\n"):
			lost++
		}
	}
	if won != 1 || lost != len(outputs)-1 {
		t.Errorf("got %q", outputs)
	}
}

func TestLockOfAFinishedRun(t *testing.T) {
	t.Parallel()
	s := created(t)
	appendAll(t, s, begin())
	waiting := make(chan error, 1)
	go func() { waiting <- s.Lock(t.Context(), testRun) }()
	time.Sleep(5 * time.Millisecond)
	must(t, s.Finish(testRun))
	wantErr(t, <-waiting, ErrFinished)
	wantErr(t, s.TryLock(testRun), ErrFinished)
	wantErr(t, s.TryLock("zzzzzz"), ErrNoRun)
	wantErr(t, s.Append(t.Context(), sample(1)), ErrNotLocked)
	wantErr(t, s.Finish(testRun), ErrNotLocked)
	if info, err := s.Stat(testRun); err != nil || !info.Done || info.Path != filepath.Join(s.Dir(), "done/abc234.jsonl") || info.Size == 0 {
		t.Errorf("got %+v, %v", info, err)
	}
	wantErr(t, s.Create(t.Context(), testRun), fs.ErrExist)
}

func TestReleaseLeavesARunOpen(t *testing.T) {
	t.Parallel()
	s := created(t)
	appendAll(t, s, begin())
	s.Release(testRun)
	s.Release(testRun)
	if s.Held(testRun) {
		t.Error("it is held still")
	}
	if runs, err := s.Open(t.Context()); err != nil || !slices.Equal(runs, []experiment.RunID{testRun}) {
		t.Errorf("open: %v, %v", runs, err)
	}
	must(t, s.TryLock(testRun))
}

// A runner that died between making the journal and writing to it has changed
// nothing.
func TestEmptyJournalIsRemoved(t *testing.T) {
	t.Parallel()
	s := created(t)
	s.Release(testRun)
	wantErr(t, s.TryLock(testRun), ErrFinished)
	if runs, err := s.Open(t.Context()); err != nil || len(runs) != 0 {
		t.Errorf("open: %v, %v", runs, err)
	}
	wantErr(t, s.TryLock(testRun), ErrNoRun)
}

// Sweeps look at journals in the moment between their making and their lock.
func TestCreateAgainstSweeps(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	stop := make(chan struct{})
	var sweeps sync.WaitGroup
	for range 4 {
		sweeps.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if s.TryLock(testRun) == nil {
						t.Error("a sweep took a run that is alive")
					}
					s.Held(testRun)
				}
			}
		})
	}
	other := storeAt(t, s.Dir())
	for range 50 {
		must(t, other.Create(t.Context(), testRun))
		appendAll(t, other, begin())
		must(t, other.Finish(testRun))
		must(t, os.Remove(filepath.Join(s.Dir(), "done/abc234.jsonl")))
	}
	close(stop)
	sweeps.Wait()
}

// Held must not make a TryLock fail.
func TestHeldDisturbsNobody(t *testing.T) {
	t.Parallel()
	s := created(t)
	appendAll(t, s, begin())
	s.Release(testRun)
	stop := make(chan struct{})
	var askers sync.WaitGroup
	for range 2 {
		askers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					s.Held(testRun)
				}
			}
		})
	}
	for range 200 {
		if err := s.TryLock(testRun); err != nil {
			t.Error(err)
			break
		}
		s.Release(testRun)
	}
	close(stop)
	askers.Wait()
}

func TestRunIDsArePathsOfNothingElse(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for _, run := range []experiment.RunID{"", "abc23", "abc2345", "../abc", "abc/23", "ABC234", "abc189"} {
		wantErr(t, s.Create(t.Context(), run), ErrNoRun)
		wantErr(t, s.Lock(t.Context(), run), ErrNoRun)
		if _, err := s.Events(t.Context(), run); !errors.Is(err, ErrNoRun) {
			t.Errorf("%q: %v", run, err)
		}
		if s.Held(run) {
			t.Errorf("%q is held", run)
		}
	}
}
