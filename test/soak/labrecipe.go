package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/simianhq/simian/experiment"
)

// newLabRecipe draws an experiment that launches a lab of its own, and strikes
// it once, twice or three times.
func (t *trial) newLabRecipe() (*recipe, error) {
	r := &recipe{t: t}
	t.recipe = r
	var err error
	if r.lab, err = t.newLab(); err != nil {
		return r, err
	}
	r.names = append(r.names, "lab of "+r.lab.root())
	checked, services := t.rng.IntN(2) == 0, t.labServices()
	for i := range 1 + t.rng.IntN(3) {
		length := time.Duration(10+t.rng.IntN(290)) * time.Millisecond
		if checked && i == 0 {
			length += window + 2*every // as above
		}
		r.labAction(i, services[i], length)
	}
	if checked {
		r.labTraffic()
	}
	return r, nil
}

// labServices draws whom the actions strike: each another, or all of them one.
func (t *trial) labServices() []string {
	services := slices.Clone(labTargets)
	t.rng.Shuffle(len(services), func(i, j int) { services[i], services[j] = services[j], services[i] })
	if t.rng.IntN(3) == 0 {
		services[1], services[2] = services[0], services[0]
	}
	return services
}

// labTargets are the services that are struck.
var labTargets = []string{"store", "bus", "api", "web", "plain", notRestarted}

// labAction adds an action on a container.
func (r *recipe) labAction(i int, service string, length time.Duration) {
	service, fault := r.onService(service)
	text := fmt.Sprintf("target: {type: native, service: %s}, %s", service, fault)
	if i > 0 && r.t.rng.IntN(2) == 0 {
		text += ", parallel: true"
	} else {
		r.length += length
	}
	if r.t.rng.IntN(4) == 0 {
		text += ", after: 20ms"
		r.length += 20 * time.Millisecond
	}
	r.names = append(r.names, text)
	fmt.Fprintf(&r.method, "  - {name: action %d, %s, for: %s}\n", i+1, text, length)
}

// onService draws a fault on a container that may have others on it; where
// nothing can be beside these, on one that has none.
func (r *recipe) onService(service string) (on, fault string) {
	if r.struck == nil {
		r.struck = map[string][]string{}
	}
	for _, other := range labTargets {
		if there := r.struck[service]; len(there) == 0 || beside("", there) {
			break
		}
		service = other
	}
	names := drawn(onBox, func(d draw) bool { return !d.ends && !d.disk || service != notRestarted })
	names = slices.DeleteFunc(names, func(name string) bool { return !beside(name, r.struck[service]) })
	name := names[r.t.rng.IntN(len(names))]
	r.struck[service] = append(r.struck[service], name)
	text := section(name, dice{r.t.rng, boxDir(service), boxPort})
	if draws()[name].ends {
		text += ", irreversible: true"
	}
	return service, text
}

// boxDir is a folder that a service's program may write to.
func boxDir(service string) string {
	switch service {
	case "store":
		return boxData
	case notRestarted:
		return "/tmp" // in memory
	}
	return "/"
}

// labTraffic has one of the containers visited, by its name in the lab and by
// its port on the host.
func (r *recipe) labTraffic() {
	r.names = append(r.names, "checked")
	r.checks = fmt.Sprintf(`  traffic:
  - {name: visits, url: "http://api:%s/", rate: 50/s}
  hypothesis:
    every: %s
    checks:
    - {name: visits are answered, traffic: visits, measure: success, window: %s, min: 0.01, allow: 90}
    - {name: page, probe: {type: http, url: "http://web:%s/"}, max: 299, allow: 90}
`, boxPort, every, window, boxPort)
}

// labWithin is how long a lab may take to come up. It is part of how long a
// run may stand still.
func (t *trial) labWithin() time.Duration {
	if t.blow.slack > 0 {
		return 10 * time.Second
	}
	return 30 * time.Second
}

// steadyWithin is how long the steady state may be waited for.
func (t *trial) steadyWithin() time.Duration {
	if t.blow.lab && t.blow.slack > 0 {
		return time.Second
	}
	return 5 * time.Second
}

// launch is the section of the file that launches the lab.
func (r *recipe) launch() string {
	if r.lab == nil {
		return ""
	}
	return fmt.Sprintf("  lab: {compose: %s, within: %s}\n", r.lab.file, r.t.labWithin())
}

// labAim draws a moment close to an event of the lab's life.
func (t *trial) labAim(kinds []experiment.EventKind) aim {
	a := aim{kind: experiment.EventContain, nth: 1 + t.rng.IntN(20)} // each container is starting first, and then running
	switch n := t.rng.IntN(len(kinds) + 8); {
	case n < len(kinds):
		a = aim{kind: kinds[n]}
	case n < len(kinds)+1:
		a = aim{kind: experiment.EventLabUp}
	case n < len(kinds)+3:
		a = aim{kind: experiment.EventApplied, nth: 1 + t.rng.IntN(11)}
	case n < len(kinds)+5:
		a = aim{kind: experiment.EventUndone, nth: 1 + t.rng.IntN(11)}
	}
	if t.rng.IntN(3) > 0 {
		a.after = time.Duration(t.rng.IntN(5000)) * time.Microsecond
	}
	return a
}
