package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
)

// checkWire wants the wire's networks to be as they were, packets to flow over
// it, and nothing to be in the host's own.
func (t *trial) checkWire() {
	if t.recipe == nil || t.recipe.wire == nil {
		return
	}
	w := t.recipe.wire
	for _, e := range w.ends() {
		if !e.killed && e.before != nil {
			for _, what := range w.changed(e) {
				t.leak("%s: %s", e.name, what)
			}
		}
	}
	if !w.flows() {
		list := w.pulse.last(fewest, bootNow().Add(-w.late))
		t.leak("packets do not flow as they did: %.0f%% of %d were answered within %s, %d by TCP", 100*share(list, w.late), len(list), w.late, w.pulse.words.Load())
	}
	for _, what := range t.hostState() {
		t.leak("this host's own network: %s", what)
	}
}

// changed says what of an end's network is not as it was, once that does not
// become less. Programs that others use are asked too, where they are there.
func (w *wire) changed(e *netEnd) []string {
	var left []string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		now, err := e.state()
		if err != nil {
			left = []string{"cannot be read: " + err.Error()}
			continue
		}
		if left = w.differences(e.before, now); len(left) == 0 {
			break
		}
	}
	if w.forgive == nil && len(left) == 0 {
		for name, text := range e.seenBy() {
			if text != e.others[name] {
				left = append(left, fmt.Sprintf("%s shows\n%s\nand not\n%s", name, text, e.others[name]))
			}
		}
	}
	return left
}

// differences lists the lines of one and not the other, but for those that the
// blow explains.
func (w *wire) differences(before, now []string) []string {
	var out []string
	add := func(sign string, of, in []string, gone bool) {
		for _, line := range of {
			if !slices.Contains(in, line) && (w.forgive == nil || !w.forgive(line, gone)) {
				out = append(out, sign+line)
			}
		}
	}
	add("-", before, now, true)
	add("+", now, before, false)
	return out
}

// moving is what changes by itself in what programs show: whether a link was
// found to be up yet, and what htb counts.
var moving = regexp.MustCompile(` state (UNKNOWN|UP)| direct_packets_stat \d+`)

// seenBy is what the usual programs show of an end's network.
func (e *netEnd) seenBy() map[string]string {
	seen := map[string]string{}
	_ = e.in(func() error {
		for _, args := range [][]string{
			{"ip", "-d", "link"},
			{"ip", "address"},
			{"tc", "qdisc"},
			{"nft", "-s", "list", "ruleset"},
		} {
			// It is started by this thread, and so is in this thread's namespace.
			if out, err := exec.Command(args[0], args[1:]...).Output(); err == nil {
				seen[strings.Join(args, " ")] = moving.ReplaceAllString(string(out), "")
			}
		}
		return nil
	})
	return seen
}

// flows tells whether packets flow again, by UDP and by TCP. It waits for it.
func (w *wire) flows() bool {
	words := w.pulse.words.Load()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if w.cut {
			return true
		}
		list := w.pulse.last(fewest, bootNow().Add(-w.late))
		if len(list) == fewest && share(list, w.late) > 0.95 && w.pulse.words.Load() > words+2 {
			return true
		}
	}
	return false
}

// inCgroupOf tells whether a process is in a cgroup that is named after a run.
func inCgroupOf(run string, pid int) bool {
	paths, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return strings.Contains(string(paths), "/simian-"+run)
}

// What takes a fault of the network back when its runner was killed.
const (
	byKernel   = "kernel"   // nft tables, and all that a helper holds
	byGuardian = "guardian" // qdiscs and links, or what a helper holds that is stopped
)

// flow is how long it took until packets flowed again.
type flow struct {
	by   string
	took time.Duration
}

// bearable is how long it may take: much longer than it does, since others may
// want this host's processors.
const bearable = time.Second

// measureNet takes down how soon packets flowed again, where they did not when
// the blow fell, and who took the fault back.
func (t *trial) measureNet(lines []line) {
	w := t.recipe.wire
	if w == nil || !t.struck || t.killed == 0 || t.recipe.stopsEnd || w.cut {
		return
	}
	kinds, from := inForce(lines, t.killed), t.killed
	if len(kinds) == 0 || t.lost != "" && len(kinds) > 1 {
		return
	}
	if before := w.pulse.last(inARow, from.Add(-3*time.Millisecond)); len(before) < inARow || share(before, w.late) > 0.2 {
		return // most packets got through
	}
	f := flow{by: byKernel}
	if slices.Contains(kinds, "qdisc") || slices.Contains(kinds, "link") || t.halted {
		f.by = byGuardian
		from = max(from, bootNow().Add(-time.Since(t.relief)))
	}
	f.took = flowsAfter(w.pulse.between(from, bootNow().Add(-w.late)), from, w.late)
	if f.took >= 0 {
		t.flow = &f
		t.note("packets flowed %s after (%s; in force: %v)", f.took, f.by, kinds)
	}
	if f.took < 0 || f.took > bearable+5*t.soak.startup { // the guardian must start, too
		t.leak("packets flowed %s after (%s; in force: %v)", f.took, f.by, kinds)
	}
}

// inForce lists the kinds of steps that were applied at a moment, and not yet
// taken back.
func inForce(lines []line, at experiment.BootTime) []string {
	kinds, on := map[int]string{}, map[int]bool{}
	for _, l := range lines {
		for _, s := range l.Steps {
			kinds[s.N] = s.does().Type
		}
		if l.Boot > at {
			break
		}
		switch l.Kind {
		case experiment.EventApplied:
			on[l.Step] = l.Error == ""
		case experiment.EventUndone:
			delete(on, l.Step)
		}
	}
	var out []string
	for n, is := range on {
		if is && slices.Contains([]string{"nft", "queue", "qdisc", "link"}, kinds[n]) {
			out = append(out, kinds[n])
		}
	}
	return out
}

// does is what the soak reads of a change.
type does struct {
	Type   string
	Run    string
	Net    struct{ Inode uint64 }
	Number int
}

func (s *lineStep) does() does {
	var d does
	_ = json.Unmarshal(s.Do, &d)
	return d
}

// passedWithout says that a run passes whose helper was killed while its
// action was on.
func (t *trial) passedWithout(lines []line, verdict string) string {
	if t.lost == "" || !t.struck || verdict != string(experiment.Pass) {
		return ""
	}
	action, over := 0, true
	for _, l := range lines {
		for _, s := range l.Steps {
			if d := s.does(); l.Boot < t.killed && d.Type == "queue" && t.lost == fmt.Sprintf("simian-%s-%d-q%d", d.Run, d.Net.Inode, d.Number) {
				action, over = l.Action, false
			}
		}
		if l.Kind == experiment.EventTakeBack && (l.Action == action || l.Action == 0) && l.Boot.Sub(t.killed) < hurry {
			over = true
		}
	}
	if over {
		return ""
	}
	return fmt.Sprintf("the helper of action %d was killed before that ended, and the run passes", action)
}
