package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// patience is how long things may take to be as they should.
const patience = 10 * time.Second

// trial is one run of Simian, what befalls it and what is left of it.
type trial struct {
	soak   *soak
	number int
	try    int // runs before it that were over before the blow fell
	rng    *rand.Rand
	blow   blow
	tag    string // names what belongs to it
	work   string // its files, kept where something was left
	dir    string // the state directory
	recipe *recipe
	aim    aim
	tail   *tail
	runner *started
	cgroup string   // of the runner; "" where it was not put into one
	life   *life    // of the lab that stands; nil where none does
	seen   *witness // what its lab was made of; nil before the blow, and without a lab

	handFrozen bool // something of the lab was frozen by the soak

	lost   string // the cgroup of a helper that was killed
	halted bool   // a helper was stopped
	flow   *flow  // how soon packets flowed again; nil where that tells nothing

	struck bool                // the blow hit something alive
	blown  experiment.BootTime // when it fell
	killed experiment.BootTime // when the runner or a helper was; 0 where neither was
	relief time.Time           // from when on somebody was there to take back
	timed  bool                // relief to running again tells something

	mended  time.Duration // relief to everything running again; -1: nothing was broken
	gone    time.Duration // the runner's death to the last of its containers'; -1: there was none
	back    time.Duration // the blow to the end of the run's take-back; -1: not known
	swept   bool          // killed before anything was broken: a sweep tidied up
	drift   []string      // what the report shows of it
	code    int           // of the runner, -1 where it was killed
	verdict string        // of the report; "" without one
	notes   []string      // what was done, in order
	leaks   []string      // what was left
}

func (s *soak) newTrial(n, try int) *trial {
	t := &trial{
		soak: s, number: n, try: try, blow: s.draw(n), timed: true, mended: -1, gone: -1, back: -1, code: -1,
		rng: rand.New(rand.NewPCG(s.seed, uint64(n)<<8|uint64(try))),
		tag: fmt.Sprintf("simian-soak-%d-%d-%d", os.Getpid(), n, try),
	}
	t.work = filepath.Join(s.dir, fmt.Sprintf("run-%d-%d", n, try))
	t.dir = filepath.Join(t.work, "state")
	return t
}

func (t *trial) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

func (t *trial) leak(format string, args ...any) {
	t.leaks = append(t.leaks, fmt.Sprintf(format, args...))
}

// do is the trial from its victims to its verdict.
func (t *trial) do() {
	strike := t.strike
	if t.blow.stands {
		strike = t.strikeLab
	}
	if err := strike(); err != nil {
		t.leak("the soak itself: %v", err)
	}
	t.settle()
	t.check()
	t.tidy()
}

// strike starts the run, waits for the moment and lets the blow fall.
func (t *trial) strike() error {
	if err := os.MkdirAll(t.work, 0o700); err != nil {
		return err
	}
	r, err := t.drawRecipe()
	if err != nil {
		return err
	}
	file := filepath.Join(t.work, "experiment.yaml")
	if err := os.WriteFile(file, []byte(r.text()), 0o600); err != nil {
		return err
	}
	t.aim = t.newAim()
	how, err := t.blow.manner(t)
	if err != nil {
		return err
	}
	t.note("%s; moment: %s", strings.Join(r.names, ", "), t.aim)
	t.tail = newTail(t.dir)
	args := []string{"run", file}
	if t.blow.slack > 0 {
		args = append(args, "--slack", t.blow.slack.String())
	}
	if t.runner, err = t.start(how, args...); err != nil {
		return err
	}
	if !t.await() {
		return nil
	}
	look := t.lookAtVictims()
	err = t.blow.fall(t)
	t.settleProcesses()
	if last := look(); t.timed && t.struck && last.After(t.relief) {
		t.mended = last.Sub(t.relief)
	}
	return err
}

// drawRecipe draws what is done to what.
func (t *trial) drawRecipe() (*recipe, error) {
	switch {
	case t.blow.lab:
		return t.newLabRecipe()
	case t.blow.net:
		return t.newNetRecipe()
	}
	return t.newRecipe()
}

// fallen notes that the blow falls now.
func (t *trial) fallen() {
	t.witness()
	t.blown, t.relief = bootNow(), time.Now()
	if t.blow.kills {
		t.killed = t.blown
	}
	t.seen.watch(patience)
}

func bootNow() experiment.BootTime {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return experiment.BootTime(ts.Nano())
}

// aim is a moment of a run: so long after its start, or after an event.
type aim struct {
	kind  experiment.EventKind // "" is the start
	nth   int                  // of the events of this kind, from 1; 0 is the first too
	after time.Duration
}

// String names the moment.
func (a aim) String() string {
	if a.kind == "" {
		return a.after.String() + " after its start"
	}
	if a.nth > 1 {
		return fmt.Sprintf("%s after %s %d", a.after, a.kind, a.nth)
	}
	return a.after.String() + " after " + string(a.kind)
}

// newAim draws a moment: some of them from anywhere in the run's life, some
// close to an event, where little time passes and much happens.
func (t *trial) newAim() aim {
	if t.rng.IntN(2) == 0 && !(t.blow.net && t.rng.IntN(2) == 0) {
		life := t.recipe.estimate() * time.Duration(10-t.try) / 10
		return aim{after: time.Duration(t.rng.Int64N(int64(life)))}
	}
	kinds := []experiment.EventKind{
		experiment.EventBegin, experiment.EventGuardian, experiment.EventPlan, experiment.EventAnnounce, experiment.EventApplied,
		experiment.EventVerified, experiment.EventInjected, experiment.EventTakeBack, experiment.EventUndone, experiment.EventEnd,
	}
	switch {
	case t.blow.lab:
		return t.labAim(kinds)
	case t.blow.net && t.rng.IntN(2) == 0: // in the middle of a fault that has been felt for a while
		return aim{kind: experiment.EventInjected, after: 2*t.recipe.wire.late + time.Duration(t.rng.Int64N(int64(60*time.Millisecond)))}
	}
	a := aim{kind: kinds[t.rng.IntN(len(kinds))]}
	if t.rng.IntN(3) > 0 {
		a.after = time.Duration(t.rng.IntN(3000)) * time.Microsecond
	}
	return a
}

// await waits for the moment; it gives false where the run ends before.
func (t *trial) await() bool {
	for t.aim.kind != "" && !t.tail.has(t.aim.kind, t.aim.nth) {
		if t.runner.ended(50 * time.Microsecond) {
			return false
		}
	}
	alive := !t.runner.ended(t.aim.after)
	t.tail.read()
	return alive
}

// lookAtVictims looks at the victims until the function it returns is called,
// which says when the last of them was seen that did not run.
func (t *trial) lookAtVictims() func() time.Time {
	var last time.Time
	herds := slices.Clone(t.recipe.herds) // a sweep may add one
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			if slices.ContainsFunc(herds, (*herd).anyBroken) {
				last = time.Now()
			}
			select {
			case <-stop:
				return
			case <-time.After(500 * time.Microsecond):
			}
		}
	})
	return func() time.Time { close(stop); wg.Wait(); return last }
}

// tidy ends the victims, and removes the files where nothing was left.
func (t *trial) tidy() {
	if t.runner != nil {
		t.runner.hangUp()
	}
	if t.recipe != nil {
		if err := t.recipe.end(); err != nil {
			t.leak("end the victims: %v", err)
		}
	}
	if t.cgroup != "" {
		if err := errors.Join(killCgroup(t.cgroup), removeCgroup(t.cgroup)); err != nil {
			t.leak("end the runner's cgroup: %v", err)
		}
	}
	if len(t.leaks) == 0 {
		_ = os.RemoveAll(t.work)
	}
}
