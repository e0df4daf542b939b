package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// netBlows are those that befall runs which break the network.
func netBlows(h host) []blow {
	list := blows(h)
	session := list[0].manner
	list = append(list,
		blow{name: "told to end", manner: session, fall: (*trial).tellRunner},
		blow{name: "helper killed", manner: session, fall: (*trial).killHelper, queue: true, fails: true},
		blow{name: "helper stopped", manner: session, fall: (*trial).stopHelper, queue: true, fails: true},
		blow{name: "target killed", manner: session, fall: (*trial).killEnd, fails: true},
		blow{name: "link deleted", manner: session, fall: (*trial).deleteItsLink, fails: true},
		blow{name: "foreign qdisc", manner: session, fall: (*trial).replaceItsRoot, fails: true},
		blow{name: "rules flushed", manner: session, fall: (*trial).flushItsRules},
	)
	for i := range list {
		list[i].net = true
		list[i].name = "net, " + list[i].name
	}
	return list
}

// tellRunner tells the runner to end, perhaps twice.
func (t *trial) tellRunner() error {
	sig := []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP}[t.rng.IntN(3)]
	t.struck, t.timed = !t.runner.ended(0), false
	t.fallen()
	t.runner.signal(sig)
	if t.rng.IntN(3) == 0 {
		time.Sleep(time.Duration(t.rng.IntN(5000)) * time.Microsecond)
		t.runner.signal(sig)
	}
	if !t.runner.ended(patience) {
		t.leak("told to end (%s), and does not", sig)
		t.runner.signal(unix.SIGKILL)
	}
	return nil
}

// helper is a process that holds packets, and the cgroup it is in.
type helper struct {
	id     experiment.ProcessID
	cgroup string
}

// helpers are those of the trial's runs, by their cgroups. One that is yet a
// copy of the runner (vfork(2)) is none: to stop that is to stop the runner.
func (t *trial) helpers() []helper {
	var out []helper
	host := proc.Host()
	roots, _ := host.CgroupRoots()
	for _, run := range t.runs() {
		for _, root := range roots {
			dirs, _ := filepath.Glob(filepath.Join(root, "simian-"+run+"-*-q*"))
			for _, dir := range dirs {
				out = append(out, helpersIn(host, dir)...)
			}
		}
	}
	return out
}

func helpersIn(host proc.FS, dir string) (out []helper) {
	pids, _ := host.CgroupMembers(dir)
	for _, pid := range pids {
		id, err := host.Identify(pid)
		args, _ := host.Cmdline(pid)
		if err == nil && len(args) > 0 && args[0] == helperName {
			out = append(out, helper{id, dir})
		}
	}
	return out
}

// awaitHelper returns a helper, which it waits for unless the run ends first.
func (t *trial) awaitHelper() (helper, bool) {
	for {
		t.tail.read()
		if list := t.helpers(); len(list) > 0 {
			return list[t.rng.IntN(len(list))], true
		}
		if t.runner.ended(time.Millisecond) {
			return helper{}, false
		}
	}
}

// killHelper kills a helper: packets flow at once, and the run is told.
func (t *trial) killHelper() error {
	h, ok := t.awaitHelper()
	if !ok {
		return nil
	}
	t.timed = false // the run goes on
	t.runner.ended(time.Duration(t.rng.IntN(60)) * time.Millisecond)
	t.fallen()
	t.killed, t.lost = t.blown, filepath.Base(h.cgroup)
	t.struck = killID(h.id)
	t.note("helper %s of %s killed (alive: %v)", h.id, t.lost, t.struck)
	return nil
}

// stopHelper stops a helper, by signal or by its cgroup. Who has it end, does
// so all the same; or it goes on, after a while.
func (t *trial) stopHelper() error {
	h, ok := t.awaitHelper()
	if !ok {
		return nil
	}
	t.timed = false
	t.fallen()
	if t.rng.IntN(3) == 0 {
		t.struck = freeze(h.cgroup)
		t.note("helper's cgroup %s frozen: %v", h.cgroup, t.struck)
	} else {
		t.struck = sendID(h.id, unix.SIGSTOP)
		t.note("helper %s of %s stopped: %v", h.id, h.cgroup, t.struck)
	}
	if t.rng.IntN(3) == 0 {
		t.runner.ended(time.Duration(t.rng.IntN(100)) * time.Millisecond)
		thaw(h.cgroup)
		t.note("it goes on: %v", sendID(h.id, unix.SIGCONT))
		return nil
	}
	t.halted = true
	t.perhapsKill()
	return nil
}

// perhapsKill kills the runner shortly after, or leaves it to do what it does.
func (t *trial) perhapsKill() {
	t.timed = false
	if t.rng.IntN(2) == 0 {
		return
	}
	gap := time.Duration(t.rng.IntN(40)) * time.Millisecond
	if t.runner.ended(gap) {
		return
	}
	t.note("the runner is killed %s later", gap)
	t.killed = bootNow()
	t.runner.signal(unix.SIGKILL)
	t.runner.ended(patience)
}

// killEnd kills an end of the wire, the near one mostly. Its namespace goes
// with it, and the wire.
func (t *trial) killEnd() error {
	w := t.recipe.wire
	e := w.ends()[t.rng.IntN(4)/3]
	if t.runner.ended(0) {
		return nil
	}
	t.fallen()
	e.killed = true
	t.struck = killID(e.id)
	t.note("%s killed", e.name)
	w.cut = true
	w.forgive = aboutLink
	t.perhapsKill()
	return nil
}

// aboutLink forgives that facts of the wire's link are gone.
func aboutLink(line string, gone bool) bool { return gone && strings.Contains(line, wireLink) }

// deleteItsLink deletes the wire, seen from one of its ends.
func (t *trial) deleteItsLink() error {
	t.recipe.wire.cut = true
	return t.meddle("link deleted", deleteLink, aboutLink)
}

// replaceItsRoot puts another qdisc at the root of the wire's link.
func (t *trial) replaceItsRoot() error {
	mine := fmt.Sprintf("%x:", foreign)
	return t.meddle("root qdisc replaced", replaceRoot, func(line string, gone bool) bool {
		return strings.HasPrefix(line, "link "+wireLink+" ") || // its txqueuelen
			gone && strings.Contains(line, " on "+wireLink+" ") || strings.Contains(line, mine)
	})
}

// flushItsRules removes all rules that somebody may remove.
func (t *trial) flushItsRules() error {
	return t.meddle("rules flushed", flushRules, func(line string, gone bool) bool {
		return gone && strings.HasPrefix(line, "nft ") && strings.Contains(line, furniture)
	})
}

// meddle does something in the namespace of one of the wire's ends, as
// somebody else would who knows nothing of the run.
func (t *trial) meddle(what string, do func() error, forgive func(string, bool) bool) error {
	w := t.recipe.wire
	e := w.ends()[t.rng.IntN(4)/3]
	if t.runner.ended(0) {
		w.cut = false
		return nil
	}
	w.forgive = forgive
	t.fallen()
	err := e.in(do)
	t.struck = true
	t.note("%s at %s: %v", what, e.name, err)
	t.perhapsKill()
	return err
}

// isHelper tells whether a process is a helper of one of the trial's runs.
func (t *trial) isHelper(pid int, args string) bool {
	return strings.HasPrefix(args, helperName) && slices.ContainsFunc(t.runs(), func(run string) bool { return inCgroupOf(run, pid) })
}
