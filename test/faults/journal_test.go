package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

// journal is the steps of one run as a line of its journal has them.
type journal struct {
	run   experiment.RunID
	line  []byte
	steps []experiment.Step // read from the line
}

func newJournal(t testing.TB, run experiment.RunID, steps []experiment.Step) *journal {
	t.Helper()
	if len(steps) == 0 {
		t.Fatal("no steps are planned")
	}
	e := experiment.Event{Kind: experiment.EventAnnounce}
	for i, s := range steps {
		e.Steps = append(e.Steps, experiment.PlannedStep{N: i + 1, Target: "t", Step: s})
	}
	line, err := codec().Marshal(&e)
	must(t, err)
	j := &journal{run: run, line: line}
	j.steps, err = read(line)
	must(t, err)
	return j
}

// read decodes a line, as whoever takes back does.
func read(line []byte) ([]experiment.Step, error) {
	var e experiment.Event
	if err := codec().Decoder()(line, &e); err != nil {
		return nil, err
	}
	var steps []experiment.Step
	for _, s := range e.Steps {
		steps = append(steps, s.Step)
	}
	return steps, nil
}

// apply does the steps. What is in force when the test fails is taken back.
func (j *journal) apply(t testing.TB) {
	t.Helper()
	t.Cleanup(func() { j.undo(t) })
	for _, s := range j.steps {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := s.Do.Apply(ctx)
		cancel()
		if err != nil {
			t.Fatalf("%s: %v", s.Do, err)
		}
	}
}

// inForce wants every step to be in force, and says what was read.
func (j *journal) inForce(t testing.TB) {
	t.Helper()
	for _, s := range j.steps {
		j.verify(t, s.Do)
	}
}

func (j *journal) verify(t testing.TB, o experiment.Op) {
	t.Helper()
	v, ok := o.(experiment.Verifier)
	if !ok {
		t.Errorf("%s can't tell whether it is in force", o)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	e, err := v.Verify(ctx)
	switch {
	case err != nil && !errors.Is(err, experiment.ErrGone):
		t.Errorf("verify %s: %v", o, err)
	case err == nil && !e.InForce:
		t.Errorf("%s is not in force: %s; %s", o, e.What, e.Hint)
	}
	t.Logf("%s: %s %s", o, e.What, e.Felt)
}

// backend names the mechanisms, where there are several for the fault.
func (j *journal) backend() string {
	var names []string
	for _, s := range j.steps {
		if b, ok := s.Do.(experiment.Backed); ok && !slices.Contains(names, b.Backend()) {
			names = append(names, b.Backend())
		}
	}
	return strings.Join(names, ", ")
}

// follow has those steps go on that do while they are in force, until the
// function it returns is called.
func (j *journal) follow(t testing.TB) func() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, s := range j.steps {
		if f, ok := s.Do.(experiment.Follower); ok {
			wg.Go(func() {
				if err := f.Follow(ctx); err != nil && ctx.Err() == nil {
					t.Errorf("follow %s: %v", s.Do, err)
				}
			})
		}
	}
	return sync.OnceFunc(func() { cancel(); wg.Wait() })
}

// takeBack undoes the steps in reverse, twice, and wants the system to say so.
func (j *journal) takeBack(t testing.TB) {
	t.Helper()
	j.undo(t)
	for _, s := range j.steps {
		if s.Undo != nil {
			j.verify(t, s.Undo)
		}
	}
	j.undo(t)
}

func (j *journal) undo(t testing.TB) {
	t.Helper()
	for _, s := range slices.Backward(j.steps) {
		if s.Undo == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := s.Undo.Apply(ctx); err != nil && !errors.Is(err, experiment.ErrGone) {
			t.Errorf("%s: %v", s.Undo, err)
		}
		cancel()
	}
}

// applyEnv names the file of a journal, for the process that applies it.
const applyEnv = "SIMIAN_FAULTS_APPLY"

// applyElsewhere has another process apply the steps, and kills it once it has
// said a word: begins, applied.
func (j *journal) applyElsewhere(t testing.TB, word string) {
	t.Helper()
	t.Cleanup(func() { j.undo(t) })
	file := filepath.Join(t.TempDir(), "journal")
	must(t, os.WriteFile(file, j.line, 0o600))
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), applyEnv+"="+file)
	in, err := c.StdinPipe() // it ends when this process does
	must(t, err)
	defer in.Close()
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	lines, said := bufio.NewScanner(out), ""
	for said != word && lines.Scan() {
		said = lines.Text()
	}
	_ = c.Process.Kill()
	_ = c.Wait()
	if said != word {
		t.Fatalf("the process that was to apply it says %q", said)
	}
}

// applyAndStay applies the steps of a journal, and waits to be killed.
func applyAndStay(file string) int {
	line, err := os.ReadFile(file)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	steps, err := read(line)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("begins")
	for _, s := range steps {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := s.Do.Apply(ctx)
		cancel()
		if err != nil {
			fmt.Println(err)
			return 1
		}
	}
	fmt.Println("applied")
	time.AfterFunc(2*patience, func() { os.Exit(1) })
	_, _ = os.Stdin.Read(make([]byte, 1))
	return 0
}
