package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// place is what a fault is drawn on.
type place int

const (
	onProcess place = 1 << iota // a process of this host that shares its cgroup with others: recipe.go
	onUnit                      // one in a cgroup of its own in every hierarchy, with limits
	onBox                       // a container of a lab
	onWire                      // an end of a wire: netrecipe.go
)

// dice draw what is said of a fault.
type dice struct {
	*rand.Rand
	dir  string // a folder that the target may write to, as it sees it; on a disk
	port string // on which it answers; "" where it does not
}

func (d dice) one(of ...string) string { return of[d.IntN(len(of))] }

// draw is how a fault is drawn.
type draw struct {
	on     place
	ends   bool                // what it strikes ends, and nothing takes that back: it is alone, too
	disk   bool                // it needs a folder on a disk
	alone  bool                // what it strikes stands still, or is started again: nothing is beside it
	fields func(d dice) string // what a file says of it, besides its type
}

// draws are all faults of the catalogue: TestEveryFaultIsDrawn wants each of
// them here.
func draws() map[string]draw {
	return map[string]draw{
		"freeze": {on: onProcess | onUnit | onBox | onWire, alone: true, fields: func(d dice) string { return d.one("", ", backend: signal") }},
		"kill":   {on: onProcess | onBox, ends: true, fields: func(d dice) string { return d.one("", ", every: 30ms", ", pattern: soak-box") }},
		"latency": {on: onWire | onBox, fields: func(d dice) string {
			return d.one(", delay: 20ms", ", delay: 5ms, jitter: 1ms, direction: both", ", loss: 20", ", rate: 1mbit")
		}},
		"partition": {on: onWire | onBox, fields: func(d dice) string {
			return d.one("", ", direction: egress", ", how: reject", ", how: reset",
				", how: blackhole, cidrs: [10.0.0.0/8]", ", how: unreachable, cidrs: [10.64.0.0/10]", ", how: prohibit, cidrs: [192.0.2.0/24]")
		}},
		"burn.cpu": {on: onUnit | onBox, fields: func(d dice) string { return fmt.Sprintf(", load: %d", 5+d.IntN(90)) }},
		"burn.memory": {on: onUnit | onBox, fields: func(d dice) string {
			return fmt.Sprintf(", size: %dMiB", 1+d.IntN(16)) + d.one("", ", ramp: 50ms")
		}},
		"burn.io": {on: onUnit | onBox, disk: true, fields: func(d dice) string {
			return fmt.Sprintf(", path: %s, file: 1MiB, do: %s", d.dir, d.one("read", "write", "both", "fsync")) +
				d.one(", random: true", "") + d.one(", bytesPerSecond: 1MiB", ", operations: 50/s", "")
		}},
		"stop": {on: onBox, alone: true, fields: func(d dice) string {
			return d.one("", ", restartAfter: 50ms", ", grace: 20ms", ", signal: INT, grace: 50ms")
		}},
		"remove":       {on: onBox, alone: true, fields: func(d dice) string { return d.one("", ", volumes: true") }},
		"capabilities": {on: onBox, alone: true, fields: func(d dice) string { return d.one(", drop: NET_RAW", ", drop: [CHOWN, KILL]") }},
		"throttle": {on: onUnit | onBox, fields: func(d dice) string {
			return d.one(", cpus: 0.2", ", cpusetCount: 1", ", pids: 150", ", cpus: 0.3, pids: 120", ", denyDevices: [{device: 'c 1:5'}]")
		}},
		"clock": {on: onProcess | onUnit | onBox, fields: func(d dice) string { return d.one(", offset: -24h", ", offset: 250ms") }},
		"fill": {on: onProcess | onUnit | onBox, disk: true, fields: func(d dice) string {
			return fmt.Sprintf(", path: %s, %s", d.dir, d.one("bytes: 1MiB", "bytes: 64MiB", "inodes: 100"))
		}},
		"detach": {on: onBox, fields: func(d dice) string { return ", how: unmount, mount: " + d.one("/etc/hostname", "/etc/hosts") }},
		"exec": {on: onProcess | onUnit | onBox, fields: func(d dice) string {
			return ", where: beside, command: [\"true\"], undo: [sh, -c, " + d.one("exit", "sleep 0.05") + "]"
		}},
		"http": {on: onBox, fields: func(d dice) string {
			return ", port: " + d.port + d.one(", status: 503", ", abort: true", ", delay: 20ms", ", status: 404, percent: 50", ", delay: 10ms, connections: keep")
		}},
		"exhaust": {on: onProcess | onUnit | onBox, fields: func(d dice) string {
			if d.port != "" && d.IntN(2) == 0 {
				return fmt.Sprintf(", what: connections, port: %s, count: %d", d.port, 1+d.IntN(100))
			}
			return fmt.Sprintf(", what: files, leave: %d", 20+d.IntN(40))
		}},
		"dns": {on: onBox, fields: func(d dice) string {
			return d.one("", ", how: refuse", ", how: nxdomain, names: [\"*.example\"]", ", how: slow, delay: 50ms")
		}},
	}
}

// drawn returns the names of the faults that are drawn on a place, sorted.
func drawn(on place, ok func(draw) bool) []string {
	all := draws()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(all)), func(name string) bool { return all[name].on&on == 0 || !ok(all[name]) })
}

// beside tells whether a fault may be drawn on what others are on already: two
// of a kind would want the same, and what ends or stands still leaves nothing
// for others.
func beside(name string, there []string) bool {
	all := draws()
	if len(there) == 0 {
		return true
	}
	alone := func(name string) bool { return all[name].ends || all[name].alone }
	return !alone(name) && !slices.Contains(there, name) && !slices.ContainsFunc(there, alone)
}

// section is the fault as a file has it.
func section(name string, d dice) string {
	return "fault: {type: " + name + draws()[name].fields(d) + "}"
}

// mostUnits is how many actions are drawn on one unit.
const mostUnits = 3

// unit breaks a process in a cgroup of its own: one that others are on, or one
// more.
func (r *recipe) unit(tag string, _ time.Duration) (string, error) {
	h := r.oldUnit()
	if h == nil {
		dirs, err := makeUnit(tag)
		if err != nil {
			return "", err
		}
		if h, err = r.herd(tag, dirs, 1, false); err != nil {
			return "", err
		}
	}
	names := drawn(onUnit, func(draw) bool { return true })
	names = slices.DeleteFunc(names, func(name string) bool { return !beside(name, h.struck) })
	name := names[r.t.rng.IntN(len(names))]
	h.struck = append(h.struck, name)
	text := section(name, dice{Rand: r.t.rng, dir: r.t.work})
	r.names = append(r.names, "unit: "+strings.TrimPrefix(text, "fault: "))
	return fmt.Sprintf("%s, target: {type: process, cgroup: %s}", text, h.cgroups[0]), nil
}

// oldUnit returns a unit that more may be done to; nil where there is none, and
// now and then.
func (r *recipe) oldUnit() *herd {
	for _, h := range r.herds {
		if len(h.cgroups) > 1 && len(h.struck) < mostUnits && !slices.Contains(h.struck, "freeze") && r.t.rng.IntN(3) > 0 {
			return h
		}
	}
	return nil
}
