package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// recipe is an experiment, and the victims that it breaks.
type recipe struct {
	t      *trial
	herds  []*herd
	method strings.Builder
	checks string
	lab    *lab          // that it launches; nil for none
	length time.Duration // of the method
	names  []string      // of the actions, for people

	struck    map[string][]string // by service of the lab: the faults that are on it
	wire      *wire               // whose packets it touches; nil for none
	stopsEnd  bool                // it stops one of the wire's ends too
	latencies int                 // actions that make packets late
	parallel  bool                // some start side by side
}

// kind draws an action of one kind: its text is the fault and the target.
type kind func(tag string, length time.Duration) (text string, err error)

// The parts of an experiment that has checks, and their lengths.
const (
	every  = 20 * time.Millisecond
	window = 60 * time.Millisecond
	steady = 60 * time.Millisecond
	within = 300 * time.Millisecond // for recovery
)

// newRecipe draws one, two or three actions, in a row or side by side, and
// starts their victims.
func (t *trial) newRecipe() (*recipe, error) {
	r := &recipe{t: t}
	t.recipe = r // so that its victims are ended whatever happens
	checked := t.rng.IntN(3) == 0
	n := 1 + t.rng.IntN(3)
	for i := range n {
		length := time.Duration(10+t.rng.IntN(190)) * time.Millisecond
		if checked && i == 0 {
			length += window + 2*every // a check that could not be sampled is refused
		}
		if err := r.action(i, length, r.processKinds()); err != nil {
			return r, err
		}
	}
	if checked {
		r.check()
	}
	return r, nil
}

// processKinds are the kinds of actions on processes that this host can bear.
func (r *recipe) processKinds() []kind {
	kinds := []kind{r.stop, r.stopAll, r.kill, r.killEvery}
	for _, version := range []string{"v1", "v2"} {
		if r.t.soak.host.freezers[version] != "" {
			kinds = append(kinds, r.freezer(version))
		}
	}
	if r.t.soak.host.units {
		kinds = append(kinds, r.unit, r.unit, r.unit)
	}
	return kinds
}

// action adds an action of one of the kinds.
func (r *recipe) action(i int, length time.Duration, kinds []kind) error {
	text, err := kinds[r.t.rng.IntN(len(kinds))](fmt.Sprintf("%s-%d", r.t.tag, i+1), length)
	if err != nil {
		return err
	}
	more := ""
	if i > 0 && r.t.rng.IntN(2) == 0 {
		more, r.parallel = ", parallel: true", true
	} else {
		r.length += length
	}
	if r.t.rng.IntN(4) == 0 {
		more += ", after: 20ms"
		r.length += 20 * time.Millisecond
	}
	fmt.Fprintf(&r.method, "  - {name: action %d, %s, for: %s%s}\n", i+1, text, length, more)
	return nil
}

func (r *recipe) herd(tag string, cgroups []string, n int, restart bool) (*herd, error) {
	h, err := newHerd(tag, cgroups, n, r.t.rng.IntN(2) == 0, restart)
	if err == nil {
		r.herds = append(r.herds, h)
	}
	return h, err
}

// stop freezes one process by signal.
func (r *recipe) stop(tag string, _ time.Duration) (string, error) {
	r.names = append(r.names, "stop")
	h, err := r.herd(tag, nil, 1, false)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("fault: {type: freeze, backend: signal}, target: {type: process, pid: %d}", h.workers[0].cmd.Process.Pid), nil
}

// stopAll freezes some processes by signal, which begin anew when they die.
func (r *recipe) stopAll(tag string, _ time.Duration) (string, error) {
	r.names = append(r.names, "stop all")
	h, err := r.herd(tag, nil, 2+r.t.rng.IntN(2), true)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("fault: {type: freeze}, target: {type: process, command: '%s', mode: all}", h.pattern()), nil
}

// kill kills one process of two, once.
func (r *recipe) kill(tag string, _ time.Duration) (string, error) {
	r.names = append(r.names, "kill")
	h, err := r.herd(tag, nil, 2, true)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("fault: {type: kill}, target: {type: process, command: '%s'}, irreversible: true", h.pattern()), nil
}

// killEvery kills processes again and again. Its victims may be those of an
// action before, which it then kills while they are stopped.
func (r *recipe) killEvery(tag string, _ time.Duration) (string, error) {
	r.names = append(r.names, "kill every")
	var h *herd
	for _, old := range r.herds {
		if old.workers[0].restart && r.t.rng.IntN(2) == 0 {
			h = old
		}
	}
	if h == nil {
		var err error
		if h, err = r.herd(tag, nil, 3, true); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("fault: {type: kill, every: %dms}, target: {type: process, command: '%s', mode: one}, irreversible: true",
		15+r.t.rng.IntN(40), h.pattern()), nil
}

// freezer freezes a cgroup with some processes in it.
func (r *recipe) freezer(version string) kind {
	return func(tag string, _ time.Duration) (string, error) {
		r.names = append(r.names, "freezer "+version)
		dir, err := makeCgroup(r.t.soak.host.freezers[version], tag)
		if err != nil {
			return "", err
		}
		if _, err := r.herd(tag, []string{dir}, 1+r.t.rng.IntN(3), false); err != nil {
			return "", err
		}
		return fmt.Sprintf("fault: {type: freeze}, target: {type: process, cgroup: %s}", dir), nil
	}
}

// check adds traffic and checks, one of which may break while a fault is on.
func (r *recipe) check() {
	r.names = append(r.names, "checked")
	host, path := r.t.soak.service.address(), "well"
	abort := ""
	if r.t.rng.IntN(3) == 0 {
		path, abort = "sick/"+r.t.tag, "  abort: {after: 2}\n"
	}
	self, _ := os.Executable()
	r.checks = fmt.Sprintf(`  traffic:
  - {name: visits, url: "http://%s/%s", rate: 100/s}
  hypothesis:
    every: %s
    checks:
    - {name: visits are answered, traffic: visits, measure: success, window: %s, min: 0.5}
    - {name: page, probe: {type: http, url: "http://%s/%s"}, max: 299, allow: 20}
    - {name: port, probe: {type: tcp, address: "%s"}, max: 1s}
    - {name: hangs, probe: {type: exec, command: ["%s", %s], timeout: 50ms}, max: 0, allow: 100}
%s`, host, path, every, window, host, path, host, self, roleHang, abort)
}

// text is the experiment file.
func (r *recipe) text() string {
	return fmt.Sprintf(`apiVersion: simian.dev/v1
kind: Experiment
metadata: {name: soak}
spec:
%s  method:
%s%s  steady: {for: %s, within: %s}
  recovery: {within: %s}
`, r.launch(), r.method.String(), r.checks, steady, r.t.steadyWithin(), within)
}

// estimate is how long a run of it takes, roughly.
func (r *recipe) estimate() time.Duration {
	all := r.t.soak.startup + r.length
	if r.lab != nil {
		all += r.lab.length
	}
	if r.checks != "" {
		all += 2*steady + 2*window + 4*every
	}
	return all
}

// broken says what of the victims does not run, nothing where all do.
func (r *recipe) broken() []string {
	var out []string
	for _, h := range r.herds {
		out = append(out, h.broken()...)
	}
	if r.wire != nil {
		out = append(out, r.wire.broken()...)
	}
	return out
}

func (r *recipe) end() error {
	var failed error
	for _, h := range r.herds {
		if err := h.end(); err != nil {
			failed = err
		}
	}
	if r.wire != nil {
		r.wire.end()
	}
	return failed
}
