package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// life is what people do with a standing lab: one command after another, until
// it is stopped.
type life struct {
	t     *trial
	lab   *lab
	over  chan struct{} // closed: no further command is begun
	ended chan struct{} // closed once the last has ended
	wrong []string      // what was not as it should be, to be read then

	stop func() // closes over

	mu  sync.Mutex
	now *started // the command that goes on; nil between two
}

// How long the commands take, roughly.
const (
	aboutUp     = 600 * time.Millisecond
	aboutStrike = 400 * time.Millisecond
	aboutDown   = 200 * time.Millisecond
)

// strikeLab launches a standing lab, waits for the moment and lets the blow
// fall on it, or on one of those who use it.
func (t *trial) strikeLab() error {
	if err := os.MkdirAll(t.work, 0o700); err != nil {
		return err
	}
	l, err := t.newLab()
	if err != nil {
		return err
	}
	t.recipe = &recipe{t: t, lab: l}
	t.tail = newTail(t.dir)
	t.tail.lab = true
	commands, about, err := t.newLife(l)
	if err != nil {
		return err
	}
	t.aim = t.standAim(about)
	t.note("standing lab of %s; moment: %s", l.root(), t.aim)
	t.life = &life{t: t, lab: l, over: make(chan struct{}), ended: make(chan struct{})}
	t.life.stop = sync.OnceFunc(func() { close(t.life.over) })
	go t.life.live(commands)
	if t.life.await(t.aim) {
		err = t.blow.fall(t)
	}
	t.lifeEnds()
	t.leaks = append(t.leaks, t.life.wrong...)
	if err != nil {
		return err
	}
	return t.endLab()
}

// newLife draws the commands, and says how long they take in all.
func (t *trial) newLife(l *lab) (commands [][]string, about time.Duration, err error) {
	commands, about = append(commands, []string{"lab", "up", "--name", l.name(), l.file}), aboutUp
	for range t.rng.IntN(3) {
		file := filepath.Join(t.work, fmt.Sprintf("strike-%d.yaml", len(commands)))
		if err := os.WriteFile(file, []byte(t.strikeText(l)), 0o600); err != nil {
			return nil, 0, err
		}
		commands, about = append(commands, []string{"run", file}), about+aboutStrike
	}
	if t.rng.IntN(2) == 0 {
		down := []string{"lab", "down", l.name()}
		if t.rng.IntN(2) == 0 {
			down = append(down, "--now")
		}
		commands, about = append(commands, down), about+aboutDown
	}
	return commands, about, nil
}

// strikeText is an experiment on the standing lab.
func (t *trial) strikeText(l *lab) string {
	r := &recipe{t: t}
	services := t.labServices()
	for i := range 1 + t.rng.IntN(2) {
		r.labAction(i, services[i], time.Duration(20+t.rng.IntN(200))*time.Millisecond)
	}
	return strings.Replace(r.text(), "spec:\n", "spec:\n  lab: {name: "+l.name()+"}\n", 1)
}

// standAim draws a moment: half of them from anywhere in the lab's life.
func (t *trial) standAim(about time.Duration) aim {
	if t.rng.IntN(2) == 0 {
		about = about * time.Duration(10-t.try) / 10
		return aim{after: time.Duration(t.rng.Int64N(int64(about)))}
	}
	return t.labAim([]experiment.EventKind{experiment.EventBegin, experiment.EventGuardian, experiment.EventAnnounce, experiment.EventTakeBack, experiment.EventEnd})
}

// live does the commands.
func (f *life) live(commands [][]string) {
	defer close(f.ended)
	for _, args := range commands {
		select {
		case <-f.over:
			return
		default:
		}
		s, err := f.t.start(sessionOfItsOwn, args...)
		if err != nil {
			f.wrong = append(f.wrong, "the soak itself: "+err.Error())
			return
		}
		f.set(s)
		if !s.ended(3 * patience) {
			f.wrong = append(f.wrong, fmt.Sprintf("simian %v did not end within %s", args, 3*patience))
			s.signal(unix.SIGKILL)
		}
		<-s.done
		f.set(nil)
		if s.code() != 0 && args[0] == "lab" {
			return
		}
	}
}

func (f *life) set(s *started) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = s
}

func (f *life) current() *started {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// await waits for the moment; it gives false where the life is over before.
func (f *life) await(a aim) bool {
	for a.kind != "" && !f.t.tail.has(a.kind, a.nth) {
		select {
		case <-f.ended:
			return false
		case <-time.After(50 * time.Microsecond):
		}
	}
	select {
	case <-f.ended:
		return f.t.standsStill()
	case <-time.After(a.after):
	}
	f.t.tail.read()
	return true
}

// standsStill tells whether the lab's supervisor lives.
func (t *trial) standsStill() bool {
	_, ok := t.supervisor()
	return ok
}

// supervisor finds the process that keeps the lab up.
func (t *trial) supervisor() (experiment.ProcessID, bool) {
	host := proc.Host()
	for pid := range t.processes() {
		args, err := host.Cmdline(pid)
		if err != nil || len(args) < 3 || args[1] != "lab" || args[2] != "stand" {
			continue
		}
		if id, err := host.Identify(pid); err == nil {
			return id, true
		}
	}
	return experiment.ProcessID{}, false
}

// endLab takes the lab down where it stands still, as people would.
func (t *trial) endLab() error {
	for end := time.Now().Add(3 * patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if !t.standsStill() {
			return nil
		}
		code, _, err := t.simianRun("lab", "ps", t.recipe.lab.name())
		if err != nil {
			return err
		}
		if code != 0 {
			continue // it comes up, or goes down
		}
		if t.seen == nil || !t.handFrozen {
			t.checkThawed()
		}
		code, out, err := t.simianRun("lab", "down", t.recipe.lab.name())
		t.note("lab down: exit %d", code)
		if err != nil || code != 0 && code != experiment.ExitUsage && t.standsStill() { // it may go down by itself
			t.leak("lab down: exit %d, and it stands still: %v %s", code, err, out)
		}
	}
	t.leak("the lab could not be taken down")
	return nil
}

// checkThawed wants nothing of a lab to stand still that is not being struck
// any more.
func (t *trial) checkThawed() {
	var left []string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if left = t.still(); len(left) == 0 {
			return
		}
	}
	for _, what := range left {
		t.leak("%s", what)
	}
}

func (t *trial) still() []string {
	var out []string
	for _, dir := range t.labCgroups() {
		if frozen(dir) {
			out = append(out, "cgroup "+dir+" is frozen")
		}
		pids, _ := proc.Host().CgroupMembers(dir)
		for _, pid := range pids {
			if stopped(pid) {
				out = append(out, fmt.Sprintf("pid %d in %s is stopped", pid, dir))
			}
		}
	}
	return out
}
